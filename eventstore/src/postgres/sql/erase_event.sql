-- Erases what one event carries, and appends the notice of it: see the function's own words in the
-- migration retention.
-- Binds: $1 position, $2 id of the notice, $3 recorded at.
-- Lock: the row of tidewire.head, the row updated. Index: events_pkey, events_stream_revision.
SELECT outcome, bytes, notice_revision, notice_position FROM tidewire.erase_event($1, $2, $3)
