-- Removes one event: leaves its position, and placeholders.
-- ?1 position. Index: the table's key.
UPDATE events
SET stream = '$removed', revision = position, type = '$removed', data = '', content_type = NULL,
    meta = NULL
WHERE position = ?1
