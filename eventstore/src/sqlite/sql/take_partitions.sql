-- Hands partitions over to a member, under new fences, and takes from it what else it had. Runs
-- under the write lock.
-- ?1 consumer, ?2 member, ?3 JSON array of the partitions. Index: the table's key.
UPDATE consumer_partitions
SET fence = fence + (partition IN (SELECT value FROM json_each(?3))),
    member = CASE WHEN partition IN (SELECT value FROM json_each(?3)) THEN ?2 END,
    unclean = unclean OR partition IN (SELECT value FROM json_each(?3))
WHERE consumer = ?1 AND (member = ?2 OR partition IN (SELECT value FROM json_each(?3)))
