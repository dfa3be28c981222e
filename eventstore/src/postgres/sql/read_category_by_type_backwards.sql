-- Reads a page of one category, events of some types only, newest first, with the head of the same
-- snapshot. Where nothing matches there is one row with the head alone. Each type is looked up by
-- itself, so that a rare type costs what it has and not what lies between.
-- A type seldom belongs to more than one category, so that the index on types finds little else.
-- Binds: $1 before this position, $2 up to and with this position (NULL: the head), $3 rows at most,
--        $4 types, each once, $5 category.
-- Lock: none. Index: events_type_position, events_pkey.
SELECT h.head, e.position, e.revision, e.recorded_at, e.id, e.stream, e.type, e.data, e.content_type, e.bytes,
       e.meta
  FROM (SELECT coalesce(max(position), 0) AS head FROM tidewire.events) AS h
  LEFT JOIN LATERAL (
      SELECT position, revision, recorded_at, id, stream, type, data, content_type, bytes, meta
        FROM (SELECT found.position
                FROM unnest($4::text[]) AS wanted (type)
               CROSS JOIN LATERAL (
                  SELECT position
                    FROM tidewire.events
                   WHERE type = wanted.type
                     AND category = $5::text
                     AND position < $1::bigint AND position <= least($2::bigint, h.head)
                   ORDER BY position DESC
                   LIMIT $3::bigint) AS found
               ORDER BY found.position DESC
               LIMIT $3::bigint) AS chosen
        JOIN tidewire.events USING (position)
       ORDER BY position DESC) AS e ON true
