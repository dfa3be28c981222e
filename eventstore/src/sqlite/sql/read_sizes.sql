-- The sizes of a category's newest events before a position.
-- ?1 category, ?2 before this position, ?3 at most so many. Index: events_by_category.
SELECT position, octet_length(data) + coalesce(octet_length(meta), 0)
FROM events
WHERE category = ?1 AND position < ?2
ORDER BY position DESC
LIMIT ?3
