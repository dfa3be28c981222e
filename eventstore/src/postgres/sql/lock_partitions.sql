-- Tells which partitions are held as given, and locks them.
-- Binds: $1 consumers, $2 partitions, $3 members, $4 fences.
-- Lock: the rows of the partitions, in order. Index: consumer_partitions_pkey.
SELECT given.place
  FROM unnest($1::text[], $2::smallint[], $3::uuid[], $4::bigint[])
       WITH ORDINALITY AS given (consumer, partition, member, fence, place)
  JOIN tidewire.consumer_partitions AS p
    ON p.consumer = given.consumer COLLATE "C" AND p.partition = given.partition
   AND p.member = given.member AND p.fence = given.fence
 ORDER BY p.consumer, p.partition
   FOR UPDATE OF p
