-- The partitions of a consumer, in order. Runs under the write lock.
-- ?1 consumer. Index: the table's key.
SELECT partition, fence, member, checkpoint, unclean, attempts FROM consumer_partitions
WHERE consumer = ?1
ORDER BY partition
