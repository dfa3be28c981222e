-- Removes members whose leases are over, or all but one, and frees what they owned. One whose
-- lease is being renewed just now stays.
-- Binds: $1 consumer, $2 the member that stays, $3 whether all others go.
-- Lock: the consumer's row is held; the removed rows, and those of their partitions.
-- Index: consumer_members_pkey, consumer_partitions_pkey.
WITH leaving AS (
    SELECT member
      FROM tidewire.consumer_members
     WHERE consumer = $1::text AND member <> $2::uuid
       AND ($3::boolean OR lease_until <= clock_timestamp())
       FOR UPDATE SKIP LOCKED),
removed AS (
    DELETE FROM tidewire.consumer_members
     WHERE consumer = $1::text AND member IN (SELECT member FROM leaving)
    RETURNING member)
UPDATE tidewire.consumer_partitions
   SET member = NULL
 WHERE consumer = $1::text AND member IN (SELECT member FROM removed)
