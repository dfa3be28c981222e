-- Which of some events are not parked, in order. Runs under the write lock.
-- ?1 consumer, ?2 JSON array of positions, in order. Index: the table's key.
SELECT given.value FROM json_each(?2) AS given
WHERE NOT EXISTS (
    SELECT 1 FROM consumer_parked AS p WHERE p.consumer = ?1 AND p.position = given.value
)
ORDER BY given.key
