-- The last revision of a stream at or before a position, that of its last removed event (-1 if there
-- is none) where no other is: within a stream positions rise with revisions, so it is found by
-- halving.
-- ?1 stream, ?2 position. Index: events_by_stream, one step a halving.
WITH RECURSIVE
removed (revision) AS (
    SELECT coalesce((SELECT revision FROM removed_streams WHERE stream = ?1), -1)
),
halving (low, high) AS (
    SELECT
        revision,
        coalesce((SELECT max(revision) FROM events WHERE stream = ?1), revision)
    FROM removed
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
