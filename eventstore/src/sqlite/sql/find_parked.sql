-- Which of some events are parked. Runs under the write lock.
-- ?1 JSON array of pairs of a consumer and a position. Index: the table's key.
SELECT p.consumer, p.position FROM json_each(?1) AS given
CROSS JOIN consumer_parked AS p
    ON p.consumer = given.value ->> 0 AND p.position = given.value ->> 1
