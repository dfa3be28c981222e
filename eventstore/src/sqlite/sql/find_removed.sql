-- The last removed position of the log, a place before all that is left, and the head.
-- Index: the table's end.
SELECT
    (SELECT position FROM removals WHERE batches > 0),
    1,
    (SELECT max(position) FROM events)
