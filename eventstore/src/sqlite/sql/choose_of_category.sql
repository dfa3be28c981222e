-- The oldest events of a category up to a position, with their sizes, and when they were recorded.
-- Runs inside the transaction that removes them.
-- ?1 category, ?2 up to this position, ?3 at most so many. Index: events_by_category.
SELECT
    position,
    revision,
    stream,
    category,
    octet_length(data) + coalesce(octet_length(meta), 0),
    recorded_at
FROM events
WHERE category = ?1 AND position <= ?2
ORDER BY position
LIMIT ?3
