-- Reads the sizes of a category's newest events before a position.
-- Binds: $1 category, $2 before this position, $3 rows at most.
-- Lock: none. Index: events_category_position.
SELECT position,
       (coalesce(octet_length(data::text), octet_length(bytes), 0)
        + coalesce(octet_length(meta::text), 0))::bigint
  FROM tidewire.events
 WHERE category = $1::text AND position < $2::bigint
 ORDER BY position DESC
 LIMIT $3::bigint
