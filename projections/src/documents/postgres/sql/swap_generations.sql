-- Makes the generation that is built the active one, if it has come as far.
-- Binds: $1 name of the projection.
-- Lock: the projection's row is held. Index: projections_pkey, projection_generations_pkey.
UPDATE tidewire.projections AS p
   SET active = p.building, building = NULL
  FROM tidewire.projection_generations AS a, tidewire.projection_generations AS b
 WHERE p.name = $1::text AND a.generation = p.active AND b.generation = p.building
   AND b.checkpoint >= a.checkpoint
