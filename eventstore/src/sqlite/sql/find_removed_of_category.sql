-- The last removed position of a category, its first one that is left, and the head.
-- ?1 category. Index: events_by_category, the table's end.
SELECT
    (SELECT position FROM removed_categories WHERE category = ?1),
    (SELECT min(position) FROM events WHERE category = ?1),
    (SELECT max(position) FROM events)
