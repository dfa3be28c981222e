-- Finds the last removed position of the log, a place before all that is left, and the head.
-- Binds: none. Lock: none. Index: events_pkey.
SELECT (SELECT position FROM tidewire.removals WHERE batches > 0),
       1::bigint,
       (SELECT max(position) FROM tidewire.events)
