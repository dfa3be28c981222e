-- Reads who the members of a consumer are, in order, and whose its partitions are, in order.
-- Binds: $1 consumer.
-- Lock: none; the consumer's row is held. Index: consumer_members_pkey, consumer_partitions_pkey.
SELECT ARRAY(SELECT member FROM tidewire.consumer_members
              WHERE consumer = $1::text AND lease_until > clock_timestamp()
              ORDER BY member) AS members,
       ARRAY(SELECT member FROM tidewire.consumer_partitions
              WHERE consumer = $1::text
              ORDER BY partition) AS owners
