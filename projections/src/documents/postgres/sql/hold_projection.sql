-- Keeps a projection from being claimed by somebody else. No row: another fence.
-- Binds: $1 name, $2 fence.
-- Lock: the projection's row, shared. Index: projections_fence.
SELECT true
  FROM tidewire.projections
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
   FOR KEY SHARE
