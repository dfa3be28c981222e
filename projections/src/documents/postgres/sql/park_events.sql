-- Puts events aside that were not yet, and counts them.
-- Binds: $1 generation, $2 positions, $3 why.
-- Lock: the generation's row is held; the new rows. Index: projection_parked_pkey,
-- projection_generations_pkey.
WITH added AS (
    INSERT INTO tidewire.projection_parked (generation, position, reason)
    SELECT $1::bigint, given.position, given.reason
      FROM unnest($2::bigint[], $3::text[]) AS given (position, reason)
        ON CONFLICT ON CONSTRAINT projection_parked_pkey DO NOTHING
    RETURNING position)
UPDATE tidewire.projection_generations AS g
   SET parked = g.parked + (SELECT count(*) FROM added)
 WHERE g.generation = $1::bigint
