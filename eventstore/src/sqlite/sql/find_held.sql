-- The places of the saves whose partitions are held as they say. Runs under the write lock.
-- ?1 JSON array of saves, as for save_progress. Index: the table's key.
SELECT given.key FROM json_each(?1) AS given
CROSS JOIN consumer_partitions AS p
    ON p.consumer = given.value ->> 0 AND p.partition = given.value ->> 1
    AND p.member = unhex(given.value ->> 2) AND p.fence = given.value ->> 3
