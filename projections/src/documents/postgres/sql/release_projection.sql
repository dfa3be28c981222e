-- Lets go of a projection, once the commits that are under way have ended.
-- Binds: $1 name, $2 fence.
-- Lock: the projection's row. Index: projections_fence.
UPDATE tidewire.projections
   SET owner = NULL, node = NULL, lease_until = NULL
 WHERE name = $1::text AND fence = $2::bigint
