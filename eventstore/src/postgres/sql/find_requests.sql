-- Finds which client-made ids were recorded before.
-- Binds: $1 ids.
-- Lock: none. Index: requests_pkey.
SELECT id, stream, place, events, revision, position
  FROM tidewire.requests
 WHERE id = ANY ($1::uuid[])
