-- Enters documents in indexes.
-- Binds: $1 generation, $2 numbers of the indexes, $3 entries, $4 keys.
-- Lock: the generation's row is held; the new entries'. Index: document_index_pkey.
INSERT INTO tidewire.document_index (generation, number, entry, key)
SELECT $1::bigint, given.number, given.entry, given.key
  FROM unnest($2::smallint[], $3::bytea[], $4::text[]) AS given (number, entry, key)
    ON CONFLICT ON CONSTRAINT document_index_pkey DO NOTHING
