-- Sets down how many parked events consumers have.
-- Binds: $1 consumers, $2 how many.
-- Lock: the consumers' rows are held. Index: consumers_pkey.
UPDATE tidewire.consumers AS c
   SET parked = given.parked
  FROM unnest($1::text[], $2::bigint[]) AS given (consumer, parked)
 WHERE c.name = given.consumer COLLATE "C"
