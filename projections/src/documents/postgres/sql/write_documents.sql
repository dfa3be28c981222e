-- Writes documents; where there is no content they are deleted and leave a tombstone.
-- Binds: $1 generation, $2 keys, $3 positions, $4 contents, NULL where deleted.
-- Lock: the generation's row is held; the documents'. Index: documents_pkey.
INSERT INTO tidewire.documents (generation, key, position, data)
SELECT $1::bigint, given.key, given.position, given.data
  FROM unnest($2::text[], $3::bigint[], $4::json[]) AS given (key, position, data)
    ON CONFLICT ON CONSTRAINT documents_pkey DO UPDATE
   SET position = excluded.position, data = excluded.data
