-- Asks for parked events to be delivered again.
-- Binds: $1 consumer, $2 positions (NULL: all).
-- Lock: the consumer's row is held; the rows of the events. Index: consumer_parked_pkey.
UPDATE tidewire.consumer_parked
   SET replaying = true
 WHERE consumer = $1::text AND ($2::bigint[] IS NULL OR position = ANY ($2::bigint[]))
