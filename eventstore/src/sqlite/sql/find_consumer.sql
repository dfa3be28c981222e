-- A consumer as it was created. ?1 name. Index: the table's key.
SELECT sharing, target, target_name, filter FROM consumers WHERE name = ?1
