-- Forgets parked events, and counts those that are left.
-- Binds: $1 consumer, $2 positions (NULL: all).
-- Lock: the consumer's row is held; the rows of the events.
-- Index: consumer_parked_pkey, consumers_pkey.
WITH dropped AS (
    DELETE FROM tidewire.consumer_parked
     WHERE consumer = $1::text AND ($2::bigint[] IS NULL OR position = ANY ($2::bigint[]))
    RETURNING position)
UPDATE tidewire.consumers
   SET parked = parked - (SELECT count(*) FROM dropped)
 WHERE name = $1::text
RETURNING (SELECT count(*) FROM dropped) AS dropped
