-- Finds the last removed position of a stream, its first one that is left, and the head.
-- Binds: $1 stream.
-- Lock: none. Index: removed_streams_pkey, events_stream_revision, events_pkey.
SELECT (SELECT position FROM tidewire.removed_streams WHERE stream = $1::text),
       (SELECT position FROM tidewire.events WHERE stream = $1::text
         ORDER BY revision LIMIT 1),
       (SELECT max(position) FROM tidewire.events)
