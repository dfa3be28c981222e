-- Removes parked events that were delivered again. Runs under the write lock.
-- ?1 JSON array of pairs of a consumer and a position. Index: the table's key.
DELETE FROM consumer_parked
WHERE (consumer, position) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
