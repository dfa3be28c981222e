-- Where an event stands in the log, and whether its revision was removed.
-- ?1 stream, ?2 revision. Index: events_by_stream, the key of removed_streams.
SELECT
    (SELECT position FROM events WHERE stream = ?1 AND revision = ?2),
    coalesce((SELECT revision >= ?2 FROM removed_streams WHERE stream = ?1), FALSE)
