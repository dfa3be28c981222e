-- Lets a lease run on from now. Waits for no commit.
-- Binds: $1 name, $2 fence, $3 seconds of the lease.
-- Lock: the projection's row. Index: projections_fence.
UPDATE tidewire.projections
   SET lease_until = clock_timestamp() + make_interval(secs => $3::float8)
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
