-- The last revision of a stream at or before a position, -1 if there is none: within a stream
-- positions rise with revisions, so it is found by halving.
-- ?1 stream, ?2 position. Index: events_by_stream, one step a halving.
WITH RECURSIVE
halving (low, high) AS (
    SELECT -1, (SELECT coalesce(max(revision), -1) FROM events WHERE stream = ?1)
    UNION ALL
    SELECT
        CASE WHEN middle.position <= ?2 THEN middle.revision ELSE low END,
        CASE WHEN middle.position <= ?2 THEN high ELSE middle.revision - 1 END
    FROM halving
    CROSS JOIN events AS middle
        ON middle.stream = ?1 AND middle.revision = (low + high + 1) / 2
    WHERE low < high
)
SELECT low FROM halving WHERE low = high
