-- The head, the epochs, and what was removed, in one snapshot. Index: the table's end.
SELECT
    (SELECT coalesce(max(position), 0) FROM events),
    epoch,
    first_position,
    began_at,
    removals.batches,
    removals.position
FROM epochs
CROSS JOIN removals
ORDER BY epochs.number
