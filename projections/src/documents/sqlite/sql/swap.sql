-- Makes what was built the active generation, if it has come as far.
-- ?1 name, ?2 the generation that was built
UPDATE projections SET active = ?2, building = NULL
WHERE name = ?1
  AND (SELECT checkpoint FROM projection_generations WHERE generation = ?2)
   >= (SELECT checkpoint FROM projection_generations WHERE generation = active)
