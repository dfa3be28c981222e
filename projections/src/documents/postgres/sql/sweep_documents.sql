-- Deletes documents of a generation that nobody reads any more.
-- Binds: $1 generation, $2 rows at most.
-- Lock: the rows. Index: documents_pkey.
DELETE FROM tidewire.documents
 WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM tidewire.documents WHERE generation = $1::bigint LIMIT $2::bigint))
