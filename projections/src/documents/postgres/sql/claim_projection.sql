-- Makes somebody the owner of a projection that nobody else owns, and raises its fence. Waits for
-- the commits under the old fence; the lease is looked at again after that. Tells the fence, NULL
-- where somebody else is the owner; no row: there is no such projection.
-- Binds: $1 name, $2 owner, $3 node, $4 seconds of the lease.
-- Lock: the projection's row. Index: projections_pkey.
WITH claimed AS (
    UPDATE tidewire.projections
       SET fence = nextval('tidewire.projection_fence'), owner = $2::uuid, node = $3::text,
           lease_until = clock_timestamp() + make_interval(secs => $4::float8)
     WHERE name = $1::text
       AND (owner IS NULL OR owner = $2::uuid OR lease_until <= clock_timestamp())
    RETURNING fence)
SELECT (SELECT fence FROM claimed) AS fence
  FROM tidewire.projections
 WHERE name = $1::text
