-- Reads which documents changed after a position, by the position of their last change, with the
-- checkpoint of the same snapshot: one row with that alone where there are none, no row where there
-- is no such generation. All changes of one position, or none.
-- Binds: $1 generation, $2 after this position, $3 rows, and all that share the last one's position,
--        $4 bytes: changes are given while those of the positions before have fewer.
-- Lock: none. Index: projection_generations_pkey, projections_pkey, documents_position.
WITH page AS MATERIALIZED (
    SELECT c.key, c.position, c.data
      FROM (SELECT d.key, d.position, d.data,
                   coalesce(sum(octet_length(d.data::text)) OVER (
                       ORDER BY d.position GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
                       AS bytes
              FROM (SELECT key, position, data
                      FROM tidewire.documents
                     WHERE generation = $1::bigint AND position > $2::bigint
                     ORDER BY position
                     FETCH FIRST ($3::bigint) ROWS WITH TIES) AS d) AS c
     WHERE c.bytes < $4::bigint)
SELECT g.checkpoint, g.changes_from,
       EXISTS (SELECT
                 FROM tidewire.projections AS a
                WHERE a.name = g.projection AND a.active = g.generation) AS active,
       EXISTS (SELECT
                 FROM tidewire.documents AS d
                WHERE d.generation = $1::bigint
                  AND d.position > (SELECT max(position) FROM page)) AS more,
       p.key, p.position, p.data
  FROM tidewire.projection_generations AS g
  LEFT JOIN page AS p ON true
 WHERE g.generation = $1::bigint AND NOT g.swept
 ORDER BY p.position, p.key
