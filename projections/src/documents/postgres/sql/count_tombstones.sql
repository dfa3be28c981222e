-- Counts the tombstones of a projection's active generation, beyond those that are kept.
-- Binds: $1 name of the projection, $2 tombstones that are kept.
-- Lock: none. Index: projections_pkey, documents_deleted.
SELECT p.active, t.count - $2::bigint AS beyond
  FROM tidewire.projections AS p
 CROSS JOIN LATERAL (
     SELECT count(*) AS count
       FROM tidewire.documents AS d
      WHERE d.generation = p.active AND d.data IS NULL) AS t
 WHERE p.name = $1::text AND t.count > $2::bigint
