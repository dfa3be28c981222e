-- Says why a generation goes no further, or that it goes on.
-- Binds: $1 name of the projection, $2 generation, $3 why or NULL, $4 the event's position or NULL.
-- Lock: the projection's row is held; the generation's. Index: projection_generations_pkey,
-- projections_pkey.
UPDATE tidewire.projection_generations
   SET stopped = $3::text, stopped_at = $4::bigint
 WHERE generation = $2::bigint
   AND EXISTS (SELECT
                 FROM tidewire.projections AS p
                WHERE p.name = $1::text AND $2::bigint IN (p.active, p.building))
