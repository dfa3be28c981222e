-- The last removed position of a stream, its first one that is left, and the head.
-- ?1 stream. Index: events_by_stream, the table's end.
SELECT
    (SELECT position FROM removed_streams WHERE stream = ?1),
    (SELECT position FROM events WHERE stream = ?1 ORDER BY revision LIMIT 1),
    (SELECT max(position) FROM events)
