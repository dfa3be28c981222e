-- Deletes a consumer. Takes the write lock.
-- ?1 name. Index: the table's key.
DELETE FROM consumers WHERE name = ?1
