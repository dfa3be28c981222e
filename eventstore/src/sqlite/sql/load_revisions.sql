-- The last revision of each stream that has or had events, and whether all of them were removed.
-- Runs inside the append transaction.
-- ?1 JSON array of stream names. Index: events_by_stream and the key of removed_streams, one step
-- a stream.
SELECT name, coalesce(revision, removed), revision IS NULL
FROM (
    SELECT
        value AS name,
        (SELECT max(revision) FROM events WHERE stream = value) AS revision,
        (SELECT revision FROM removed_streams WHERE stream = value) AS removed
    FROM json_each(?1)
)
WHERE revision IS NOT NULL OR removed IS NOT NULL
