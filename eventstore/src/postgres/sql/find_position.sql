-- Finds where an event stands in the log, and whether its revision was removed.
-- Binds: $1 stream, $2 revision.
-- Lock: none. Index: events_stream_revision, removed_streams_pkey.
SELECT (SELECT position FROM tidewire.events WHERE stream = $1::text AND revision = $2::bigint),
       EXISTS (SELECT FROM tidewire.removed_streams
                WHERE stream = $1::text AND revision >= $2::bigint)
