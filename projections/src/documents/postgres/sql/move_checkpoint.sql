-- Moves a checkpoint from where it has to be. Tells whether the fence is the present one, and how
-- often the checkpoint was written (NULL: it is not where it has to be, or nobody needs the
-- generation any more).
-- Binds: $1 name of the projection, $2 fence, $3 generation, $4 from, $5 to.
-- Lock: the projection's row, shared; the generation's.
-- Index: projections_fence, projection_generations_pkey.
WITH held AS (
    SELECT name, active, building
      FROM tidewire.projections
     WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
       FOR KEY SHARE),
moved AS (
    UPDATE tidewire.projection_generations AS g
       SET checkpoint = $5::bigint, commits = g.commits + 1
      FROM held
     WHERE g.generation = $3::bigint AND g.checkpoint = $4::bigint
       AND g.generation IN (held.active, held.building)
    RETURNING g.commits)
SELECT EXISTS (SELECT FROM held) AS held, (SELECT commits FROM moved) AS commits
