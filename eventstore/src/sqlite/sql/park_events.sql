-- Parks events, or notes anew how those fared that are parked already. Runs under the write lock.
-- ?1 JSON array of arrays: consumer, position, partition, attempts, reason; ?2 parked_at
INSERT INTO consumer_parked (consumer, position, partition, attempts, reason, parked_at)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, ?2
FROM json_each(?1)
WHERE true
ON CONFLICT DO UPDATE SET partition = excluded.partition, attempts = excluded.attempts,
    reason = excluded.reason, parked_at = excluded.parked_at, replaying = 0, told = NULL
