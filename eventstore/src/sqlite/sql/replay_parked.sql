-- Asks for parked events to be delivered again. Runs under the write lock.
-- ?1 consumer, ?2 JSON array of positions or null for all. Index: the table's key.
UPDATE consumer_parked SET replaying = 1
WHERE consumer = ?1 AND (?2 IS NULL OR position IN (SELECT value FROM json_each(?2)))
