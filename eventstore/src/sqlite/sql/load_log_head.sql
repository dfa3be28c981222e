-- The head and the epochs, in one snapshot. Index: the table's end.
SELECT (SELECT coalesce(max(position), 0) FROM events), epoch, first_position, began_at
FROM epochs
ORDER BY number
