-- Reads a page of one stream, newest first, with the head of the same snapshot. Where nothing matches
-- there is one row with the head alone.
-- Binds: $1 before this position, $2 up to and with this position (NULL: the head), $3 rows at most,
--        $4 stream, $5 before this revision, $6 types (NULL: all).
-- Lock: none. Index: events_stream_revision.
SELECT h.head, e.position, e.revision, e.recorded_at, e.id, e.stream, e.type, e.data, e.content_type, e.bytes,
       e.meta
  FROM (SELECT coalesce(max(position), 0) AS head FROM tidewire.events) AS h
  LEFT JOIN LATERAL (
      SELECT position, revision, recorded_at, id, stream, type, data, content_type, bytes, meta
        FROM tidewire.events
       WHERE stream = $4::text AND revision < $5::bigint
         AND position < $1::bigint AND position <= least($2::bigint, h.head)
         AND ($6::text[] IS NULL OR type = ANY ($6))
       ORDER BY revision DESC
       LIMIT $3::bigint) AS e ON true
