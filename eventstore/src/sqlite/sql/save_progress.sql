-- Records the progress of partitions that are held as given, each at most once. A checkpoint never
-- moves back. Runs under the write lock.
-- ?1 JSON array of saves, each an array: consumer, partition, member as hexadecimal digits, fence,
-- checkpoint, attempts, whether it is let go in order (null: it is not let go), whether checkpoint
-- and attempts count, or the release alone. Index: the table's key.
UPDATE consumer_partitions AS p
SET checkpoint = iif(held.counts, max(p.checkpoint, held.checkpoint), p.checkpoint),
    attempts = iif(held.counts, held.attempts, p.attempts),
    member = iif(held.clean IS NULL, p.member, NULL),
    unclean = iif(held.clean IS NULL, p.unclean, NOT held.clean)
FROM (
    SELECT value ->> 0 AS consumer, value ->> 1 AS partition, unhex(value ->> 2) AS member,
        value ->> 3 AS fence, value ->> 4 AS checkpoint, value ->> 5 AS attempts,
        value ->> 6 AS clean, value ->> 7 AS counts
    FROM json_each(?1)
) AS held
WHERE p.consumer = held.consumer AND p.partition = held.partition
    AND p.member = held.member AND p.fence = held.fence
