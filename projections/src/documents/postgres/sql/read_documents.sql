-- Reads the documents of some keys.
-- Binds: $1 generation, $2 keys.
-- Lock: none. Index: documents_pkey.
SELECT key, position, data
  FROM tidewire.documents
 WHERE generation = $1::bigint AND key = ANY ($2::text[]) AND data IS NOT NULL
