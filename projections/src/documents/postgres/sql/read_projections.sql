-- Reads a projection, or all of them by name, each with its active and its building generation.
-- Binds: $1 name, or NULL for all.
-- Lock: none. Index: projections_pkey, projection_generations_pkey.
SELECT p.name, p.fence, p.wish,
       CASE WHEN p.lease_until > clock_timestamp() THEN p.node END AS node, p.lease_until,
       a.generation, a.version, a.checkpoint, a.began_at, a.parked, a.stopped, a.stopped_at,
       a.changes_from,
       b.generation, b.version, b.checkpoint, b.began_at, b.parked, b.stopped, b.stopped_at,
       b.changes_from
  FROM tidewire.projections AS p
  JOIN tidewire.projection_generations AS a ON a.generation = p.active
  LEFT JOIN tidewire.projection_generations AS b ON b.generation = p.building
 WHERE $1::text IS NULL OR p.name = $1::text
 ORDER BY p.name
