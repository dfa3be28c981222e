-- The last position in the log, 0 if it is empty. Runs inside the append transaction.
-- Index: the table's end.
SELECT coalesce(max(position), 0) FROM events
