-- Notes how far events of a category were removed.
-- ?1 category, ?2 position. Index: the key of removed_categories.
INSERT INTO removed_categories (category, position)
VALUES (?1, ?2)
ON CONFLICT (category) DO UPDATE SET position = max(position, excluded.position)
