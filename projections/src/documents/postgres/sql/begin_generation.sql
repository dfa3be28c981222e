-- Begins a generation, to be the one that is built.
-- Binds: $1 name of the projection, $2 version.
-- Lock: the projection's row is held. Index: projections_pkey.
WITH begun AS (
    INSERT INTO tidewire.projection_generations (generation, projection, version)
    VALUES (nextval('tidewire.projection_generation'), $1::text, $2::bigint)
    RETURNING generation)
UPDATE tidewire.projections AS p
   SET building = begun.generation
  FROM begun
 WHERE p.name = $1::text
RETURNING p.building
