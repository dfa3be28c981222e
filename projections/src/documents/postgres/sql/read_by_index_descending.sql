-- Reads a page of documents by their falling entries in an index, equal ones by rising key, with
-- the checkpoint of the same snapshot: one row with the checkpoint alone where there are none, no
-- row where there is no such generation. Each row tells how many there would be without the bound
-- of bytes.
--
-- An index is read one way or the other: backwards, the keys of equal entries come falling. All
-- the keys are there for each entry but the last that such a scan has met, whose first keys are
-- looked up instead; and so are those after the place where the page begins.
-- Binds: $1 generation, $2 number of the index, $3 entries from this, $4 entries before this (NULL:
--        to the last), $5 and $6 after this entry and key (NULL: from the first), $7 rows at most,
--        $8 bytes: a row is given while those before it have fewer.
-- Lock: none. Index: projection_generations_pkey, document_index_pkey, documents_pkey.
WITH scanned AS MATERIALIZED (
    SELECT entry, key
      FROM tidewire.document_index
     WHERE generation = $1::bigint AND number = $2::smallint AND entry >= $3::bytea
       AND ($4::bytea IS NULL OR entry < $4::bytea) AND ($5::bytea IS NULL OR entry < $5::bytea)
     ORDER BY entry DESC, key DESC
     LIMIT $7::bigint),
last AS MATERIALIZED (
    SELECT entry FROM scanned ORDER BY entry LIMIT 1),
chosen AS (
    (SELECT entry, key
       FROM tidewire.document_index
      WHERE generation = $1::bigint AND number = $2::smallint AND entry >= $3::bytea
        AND ($4::bytea IS NULL OR entry < $4::bytea) AND entry = $5::bytea AND key > $6::text
      ORDER BY key
      LIMIT $7::bigint)
    UNION ALL
    SELECT entry, key
      FROM scanned
     WHERE entry > (SELECT entry FROM last)
    UNION ALL
    (SELECT entry, key
       FROM tidewire.document_index
      WHERE generation = $1::bigint AND number = $2::smallint AND entry = (SELECT entry FROM last)
      ORDER BY key
      LIMIT $7::bigint)
    ORDER BY entry DESC, key
    LIMIT $7::bigint)
SELECT g.checkpoint, p.rows, p.entry, p.key, p.position, p.data
  FROM tidewire.projection_generations AS g
  LEFT JOIN (
      SELECT i.entry, d.key, d.position, d.data, count(*) OVER () AS rows,
             coalesce(sum(octet_length(d.data::text)) OVER (
                 ORDER BY i.entry DESC, i.key ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
                 AS bytes
        FROM chosen AS i
        JOIN tidewire.documents AS d ON d.generation = $1::bigint AND d.key = i.key)
      AS p ON p.bytes < $8::bigint
 WHERE g.generation = $1::bigint AND NOT g.swept
 ORDER BY p.entry DESC, p.key
