-- Removes the oldest events of a stream or of a category, so many at most: see the function's own
-- words in the migration retention.
-- Binds: $1 stream, $2 before this revision, $3 category, $4 up to this position, $5 recorded before
--        this moment (NULL: at any), $6 rows at most.
-- Lock: the row of tidewire.head, the rows updated. Index: all of events and of the tables of removals.
SELECT events, bytes, last_position FROM tidewire.remove_events($1, $2, $3, $4, $5, $6)
