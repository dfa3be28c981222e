-- Finds which of some events are parked.
-- Binds: $1 consumers, $2 positions.
-- Lock: none; the consumers' rows are held. Index: consumer_parked_pkey.
SELECT p.consumer, p.position
  FROM unnest($1::text[], $2::bigint[]) AS given (consumer, position)
  JOIN tidewire.consumer_parked AS p
    ON p.consumer = given.consumer COLLATE "C" AND p.position = given.position
