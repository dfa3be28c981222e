-- Finds the last removed position of a category, its first one that is left, and the head.
-- Binds: $1 category.
-- Lock: none. Index: removed_categories_pkey, events_category_position, events_pkey.
SELECT (SELECT position FROM tidewire.removed_categories WHERE category = $1::text),
       (SELECT position FROM tidewire.events WHERE category = $1::text
         ORDER BY position LIMIT 1),
       (SELECT max(position) FROM tidewire.events)
