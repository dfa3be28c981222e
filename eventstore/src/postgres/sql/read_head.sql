-- Reads the last committed position, 0 in an empty log.
-- Binds: none. Lock: none. Index: events_pkey.
SELECT coalesce(max(position), 0) FROM tidewire.events
