-- Reads one consumer with its holders and partitions.
-- Binds: $1 name.
-- Lock: none. Index: consumers_pkey, consumer_members_pkey, consumer_partitions_pkey.
SELECT c.name, c.sharing, c.target, c.target_name, c.filter, c.created_at, c.parked,
       ARRAY(SELECT m.member
               FROM tidewire.consumer_members AS m
              WHERE m.consumer = c.name AND m.lease_until > statement_timestamp()
              ORDER BY m.member) AS members,
       ARRAY(SELECT m.node
               FROM tidewire.consumer_members AS m
              WHERE m.consumer = c.name AND m.lease_until > statement_timestamp()
              ORDER BY m.member) AS nodes,
       ARRAY(SELECT p.member
               FROM tidewire.consumer_partitions AS p
              WHERE p.consumer = c.name
              ORDER BY p.partition) AS owners,
       (SELECT min(p.checkpoint)
          FROM tidewire.consumer_partitions AS p
         WHERE p.consumer = c.name) AS checkpoint
  FROM tidewire.consumers AS c
 WHERE c.name = $1::text
