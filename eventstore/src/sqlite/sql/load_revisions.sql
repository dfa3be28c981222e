-- The last revision of each stream that has events. Runs inside the append transaction.
-- ?1 JSON array of stream names. Index: events_by_stream, one step a stream.
SELECT name, revision
FROM (
    SELECT value AS name, (SELECT max(revision) FROM events WHERE stream = value) AS revision
    FROM json_each(?1)
)
WHERE revision IS NOT NULL
