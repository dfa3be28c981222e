-- Removes a member and frees what it owned.
-- Binds: $1 consumer, $2 member.
-- Lock: the consumer's row is held; the member's row, and those of its partitions.
-- Index: consumer_members_pkey, consumer_partitions_pkey.
WITH removed AS (
    DELETE FROM tidewire.consumer_members WHERE consumer = $1::text AND member = $2::uuid)
UPDATE tidewire.consumer_partitions
   SET member = NULL
 WHERE consumer = $1::text AND member = $2::uuid
