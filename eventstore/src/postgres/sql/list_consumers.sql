-- Reads a page of consumers by name, each with its holders and partitions.
-- Binds: $1 after this name (NULL: from the first), $2 at most so many.
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
 WHERE ($1::text IS NULL OR c.name > $1::text)
 ORDER BY c.name
 LIMIT $2::bigint
