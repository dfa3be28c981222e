-- The oldest events of a stream before a revision, as they lie, with their sizes. Runs inside the
-- transaction that removes them.
-- ?1 stream, ?2 before this revision, ?3 at most so many. Index: events_by_stream.
SELECT
    position,
    revision,
    stream,
    category,
    octet_length(data) + coalesce(octet_length(meta), 0)
FROM events
WHERE stream = ?1 AND revision < ?2
ORDER BY revision
LIMIT ?3
