-- Loads what a group depends on: the head, the fence, and of each stream the last revision and how far
-- it was removed (NULL: it has no events, none were removed), in the order of the streams.
-- Binds: $1 streams.
-- Lock: none. Index: events_pkey, events_stream_revision, removed_streams_pkey.
SELECT (SELECT coalesce(max(position), 0) FROM tidewire.events) AS head,
       (SELECT fence FROM tidewire.head) AS fence,
       ARRAY(SELECT (SELECT max(e.revision) FROM tidewire.events AS e WHERE e.stream = s.stream)
               FROM unnest($1::text[]) WITH ORDINALITY AS s (stream, n)
              ORDER BY s.n) AS revisions,
       ARRAY(SELECT (SELECT r.revision FROM tidewire.removed_streams AS r
                      WHERE r.stream = s.stream)
               FROM unnest($1::text[]) WITH ORDINALITY AS s (stream, n)
              ORDER BY s.n) AS removed
