-- Reads a page of a consumer's parked events, with what the log says about them.
-- Binds: $1 consumer, $2 after this position, $3 at most so many.
-- Lock: none. Index: consumer_parked_pkey, events_pkey.
SELECT p.position, e.stream, e.type, p.attempts, p.reason, p.parked_at, p.replaying
  FROM tidewire.consumer_parked AS p
  LEFT JOIN tidewire.events AS e ON e.position = p.position
 WHERE p.consumer = $1::text AND p.position > $2::bigint
 ORDER BY p.position
 LIMIT $3::bigint
