-- How many parked events consumers have. Runs under the write lock.
-- ?1 JSON array of names. Index: the table's key.
SELECT name, parked FROM consumers WHERE name IN (SELECT value FROM json_each(?1))
