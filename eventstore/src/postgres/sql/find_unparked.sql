-- Finds which of some events are not parked, in order.
-- Binds: $1 consumer, $2 positions.
-- Lock: none; the consumer's row is held. Index: consumer_parked_pkey.
SELECT given.position
  FROM unnest($2::bigint[]) AS given (position)
 WHERE NOT EXISTS (SELECT
                     FROM tidewire.consumer_parked AS p
                    WHERE p.consumer = $1::text AND p.position = given.position)
 ORDER BY given.position
