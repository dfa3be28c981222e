-- Reads a page of one category, newest first, with the head of the same snapshot. Where nothing
-- matches there is one row with the head alone.
-- Binds: $1 before this position, $2 up to and with this position (NULL: the head), $3 rows at most,
--        $4 category.
-- Lock: none. Index: events_category_position.
SELECT h.head, e.position, e.revision, e.recorded_at, e.id, e.stream, e.type, e.data, e.content_type, e.bytes,
       e.meta
  FROM (SELECT coalesce(max(position), 0) AS head FROM tidewire.events) AS h
  LEFT JOIN LATERAL (
      SELECT position, revision, recorded_at, id, stream, type, data, content_type, bytes, meta
        FROM tidewire.events
       WHERE category = $4::text
         AND position < $1::bigint AND position <= least($2::bigint, h.head)
       ORDER BY position DESC
       LIMIT $3::bigint) AS e ON true
