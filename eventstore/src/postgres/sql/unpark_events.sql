-- Removes parked events that were delivered again.
-- Binds: $1 consumers, $2 positions.
-- Lock: the consumers' rows are held. Index: consumer_parked_pkey.
DELETE FROM tidewire.consumer_parked AS p
 USING unnest($1::text[], $2::bigint[]) AS given (consumer, position)
 WHERE p.consumer = given.consumer COLLATE "C" AND p.position = given.position
