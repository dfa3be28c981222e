-- Creates a projection with its first generation, unless there is one of its name.
-- Binds: $1 name, $2 version.
-- Lock: the new rows. Index: projections_pkey.
WITH created AS (
    INSERT INTO tidewire.projections (name, active)
    SELECT $1::text, nextval('tidewire.projection_generation')
     WHERE NOT EXISTS (SELECT FROM tidewire.projections WHERE name = $1::text)
        ON CONFLICT (name) DO NOTHING
    RETURNING active)
INSERT INTO tidewire.projection_generations (generation, projection, version)
SELECT created.active, $1::text, $2::bigint
  FROM created
