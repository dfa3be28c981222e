-- Deletes the oldest tombstones of a generation, and says in its row through where that was.
-- Binds: $1 generation, $2 rows at most.
-- Lock: the generation's row is held; the tombstones'. Index: documents_deleted,
-- projection_generations_pkey.
WITH swept AS (
    DELETE FROM tidewire.documents
     WHERE ctid = ANY (ARRAY(
           SELECT ctid
             FROM tidewire.documents
            WHERE generation = $1::bigint AND data IS NULL
            ORDER BY position
            LIMIT $2::bigint))
    RETURNING position)
UPDATE tidewire.projection_generations AS g
   SET changes_from = greatest(g.changes_from, (SELECT max(position) FROM swept))
 WHERE g.generation = $1::bigint
