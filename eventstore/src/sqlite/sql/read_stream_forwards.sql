-- A page of a stream, forwards.
-- ?1 after this revision, ?2 up to this one, ?3 at most so many,
-- ?4 JSON array of types or null for all, ?5 stream, ?6 up to this position.
-- Index: events_by_stream.
SELECT position, revision, recorded_at, id, stream, type, data, content_type, meta
FROM events
WHERE stream = ?5 AND revision > ?1 AND revision <= ?2 AND position <= ?6
    AND (?4 IS NULL OR type IN (SELECT value FROM json_each(?4)))
ORDER BY revision ASC
LIMIT ?3
