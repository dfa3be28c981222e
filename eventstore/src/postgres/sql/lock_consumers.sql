-- Locks consumers that are to park events, or to park some no longer, and tells how many they have.
-- Binds: $1 names.
-- Lock: the consumers' rows, in order. Index: consumers_pkey.
SELECT name, parked
  FROM tidewire.consumers
 WHERE name = ANY ($1::text[])
 ORDER BY name
   FOR NO KEY UPDATE
