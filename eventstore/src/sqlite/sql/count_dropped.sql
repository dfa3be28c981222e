-- A consumer has so many parked events fewer. Runs under the write lock.
-- ?1 name, ?2 how many. Index: the table's key.
UPDATE consumers SET parked = parked - ?2 WHERE name = ?1
