-- Reads which generations a projection has, and keeps them from changing; waits for the commits
-- that are under way. No row: another fence.
-- Binds: $1 name, $2 fence.
-- Lock: the projection's row. Index: projections_fence.
SELECT active, building
  FROM tidewire.projections
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
   FOR UPDATE
