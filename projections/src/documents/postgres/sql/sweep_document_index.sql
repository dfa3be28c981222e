-- Deletes entries of an index of a generation that nobody reads any more.
-- Binds: $1 generation, $2 rows at most.
-- Lock: the rows. Index: document_index_pkey.
DELETE FROM tidewire.document_index
 WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM tidewire.document_index WHERE generation = $1::bigint LIMIT $2::bigint))
