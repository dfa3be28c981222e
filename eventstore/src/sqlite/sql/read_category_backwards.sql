-- A page of a category, backwards.
-- ?1 after this position, ?2 up to this one, ?3 at most so many,
-- ?4 JSON array of types or null for all, ?5 category. Index: events_by_category.
SELECT position, revision, recorded_at, id, stream, type, data, content_type, meta
FROM events
WHERE category = ?5 AND position > ?1 AND position <= ?2
    AND (?4 IS NULL OR type IN (SELECT value FROM json_each(?4)))
ORDER BY position DESC
LIMIT ?3
