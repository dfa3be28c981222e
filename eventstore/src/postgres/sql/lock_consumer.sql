-- Reads a consumer and locks it against other claims, against parking and against deletion.
-- Binds: $1 name.
-- Lock: the consumer's row. Index: consumers_pkey.
SELECT sharing, target, target_name, filter, parked
  FROM tidewire.consumers
 WHERE name = $1::text
   FOR NO KEY UPDATE
