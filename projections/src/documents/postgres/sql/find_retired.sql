-- Finds a generation that is nobody's any more: of a projection that has others now, or of one that
-- was forgotten.
-- Binds: $1 name of the projection.
-- Lock: none. Index: projection_generations_projection, projections_pkey.
SELECT g.generation
  FROM tidewire.projection_generations AS g
  LEFT JOIN tidewire.projections AS p ON p.name = g.projection
 WHERE (g.projection = $1::text AND g.generation IS DISTINCT FROM p.active
        AND g.generation IS DISTINCT FROM p.building)
    OR p.name IS NULL
 ORDER BY g.generation
 LIMIT 1
