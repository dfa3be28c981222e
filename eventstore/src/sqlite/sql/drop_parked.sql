-- Forgets parked events. Runs under the write lock.
-- ?1 consumer, ?2 JSON array of positions or null for all. Index: the table's key.
DELETE FROM consumer_parked
WHERE consumer = ?1 AND (?2 IS NULL OR position IN (SELECT value FROM json_each(?2)))
