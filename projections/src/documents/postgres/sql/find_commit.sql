-- Reads how often a checkpoint was written, after whoever is writing it has ended, and whether the
-- fence is still the same.
-- Binds: $1 name of the projection, $2 fence, $3 generation.
-- Lock: the generation's row. Index: projection_generations_pkey, projections_pkey.
SELECT g.commits,
       EXISTS (SELECT
                 FROM tidewire.projections AS p
                WHERE p.name = $1::text AND p.fence = $2::bigint
                  AND p.owner IS NOT NULL) AS held
  FROM tidewire.projection_generations AS g
 WHERE g.generation = $3::bigint
   FOR NO KEY UPDATE
