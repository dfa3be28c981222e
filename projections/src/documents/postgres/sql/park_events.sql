-- Puts events aside.
-- Binds: $1 generation, $2 positions, $3 why.
-- Lock: the generation's row is held; the new rows. Index: projection_parked_pkey.
INSERT INTO tidewire.projection_parked (generation, position, reason)
SELECT $1::bigint, given.position, given.reason
  FROM unnest($2::bigint[], $3::text[]) AS given (position, reason)
