-- The last revision of a stream at or before a position, -1 if there is none: within a stream
-- positions rise with revisions, so it is found by halving.
-- ?1 stream, ?2 position. Index: events_by_stream, one step a halving.
WITH RECURSIVE
halving (low, high) AS (
    SELECT -1, (SELECT coalesce(max(revision), -1) FROM events WHERE stream = ?1)
    UNION ALL
    SELECT
        CASE WHEN at <= ?2 THEN middle ELSE low END,
        CASE WHEN at <= ?2 THEN high ELSE middle - 1 END
    FROM (
        SELECT
            low,
            high,
            (low + high + 1) / 2 AS middle,
            (
                SELECT position FROM events
                WHERE stream = ?1 AND revision = (low + high + 1) / 2
            ) AS at
        FROM halving
        WHERE low < high
    )
)
SELECT low FROM halving WHERE low = high
