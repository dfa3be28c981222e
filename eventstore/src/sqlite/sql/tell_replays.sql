-- Notes which claim was told to deliver parked events again. Runs under the write lock.
-- ?1 consumer, ?2 fence, ?3 JSON array of positions. Index: the table's key.
UPDATE consumer_parked SET told = ?2
WHERE consumer = ?1 AND position IN (SELECT value FROM json_each(?3))
