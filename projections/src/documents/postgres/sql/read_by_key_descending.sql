-- Reads a page of documents by falling key, with the checkpoint of the same snapshot: one row with
-- the checkpoint alone where there are none, no row where there is no such generation. Each row
-- tells how many there would be without the bound of bytes.
-- Binds: $1 generation, $2 after this key (NULL: from the first), $3 rows at most, $4 bytes: a row
--        is given while those before it have fewer.
-- Lock: none. Index: projection_generations_pkey, documents_pkey.
SELECT g.checkpoint, p.rows, NULL::bytea AS entry, p.key, p.position, p.data
  FROM tidewire.projection_generations AS g
  LEFT JOIN (
      SELECT d.key, d.position, d.data, count(*) OVER () AS rows,
             coalesce(sum(octet_length(d.data::text)) OVER (
                 ORDER BY d.key DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes
        FROM (SELECT key, position, data
                FROM tidewire.documents
               WHERE generation = $1::bigint AND data IS NOT NULL
                 AND ($2::text IS NULL OR key < $2::text)
               ORDER BY key DESC
               LIMIT $3::bigint) AS d) AS p ON p.bytes < $4::bigint
 WHERE g.generation = $1::bigint AND NOT g.swept
 ORDER BY p.key DESC
