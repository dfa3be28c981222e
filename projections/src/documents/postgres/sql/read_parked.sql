-- Reads which events were put aside, by position.
-- Binds: $1 generation, $2 after this position, $3 rows at most.
-- Lock: none. Index: projection_parked_pkey.
SELECT position, reason
  FROM tidewire.projection_parked
 WHERE generation = $1::bigint AND position > $2::bigint
 ORDER BY position
 LIMIT $3::bigint
