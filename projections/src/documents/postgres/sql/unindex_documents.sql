-- Takes documents out of indexes.
-- Binds: $1 generation, $2 numbers of the indexes, $3 entries, $4 keys.
-- Lock: the generation's row is held; the entries'. Index: document_index_pkey.
DELETE FROM tidewire.document_index AS i
 USING unnest($2::smallint[], $3::bytea[], $4::text[]) AS given (number, entry, key)
 WHERE i.generation = $1::bigint AND i.number = given.number AND i.entry = given.entry
   AND i.key = given.key COLLATE "C"
