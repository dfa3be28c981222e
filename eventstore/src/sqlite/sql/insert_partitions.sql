-- The partitions of a new consumer. Runs under the write lock. Fences begin at the present moment,
-- beyond those of an earlier consumer of the name.
-- ?1 consumer, ?2 JSON array of partitions, ?3 fence, ?4 first checkpoint
INSERT INTO consumer_partitions (consumer, partition, fence, checkpoint)
SELECT ?1, value, ?3, ?4 FROM json_each(?2)
