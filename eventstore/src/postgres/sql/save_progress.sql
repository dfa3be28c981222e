-- Records the progress of partitions that are held as given, each at most once, and returns the
-- places of those that were. A checkpoint never moves back.
-- Binds: $1 consumers, $2 partitions, $3 members, $4 fences, $5 checkpoints, $6 attempts,
--        $7 whether they are let go in order (NULL: they are not let go), $8 whether checkpoint
--        and attempts count, or the release alone.
-- Lock: the rows of the partitions, in order. Index: consumer_partitions_pkey.
WITH held AS (
    SELECT given.*
      FROM unnest($1::text[], $2::smallint[], $3::uuid[], $4::bigint[], $5::bigint[], $6::text[],
                  $7::boolean[], $8::boolean[])
           WITH ORDINALITY
           AS given (consumer, partition, member, fence, checkpoint, attempts, clean, counts, place)
      JOIN tidewire.consumer_partitions AS p
        ON p.consumer = given.consumer COLLATE "C" AND p.partition = given.partition
       AND p.member = given.member AND p.fence = given.fence
     ORDER BY p.consumer, p.partition
       FOR UPDATE OF p)
UPDATE tidewire.consumer_partitions AS p
   SET checkpoint = CASE WHEN held.counts THEN greatest(p.checkpoint, held.checkpoint)
                         ELSE p.checkpoint END,
       attempts = CASE WHEN held.counts THEN held.attempts ELSE p.attempts END,
       member = CASE WHEN held.clean IS NULL THEN p.member END,
       unclean = CASE WHEN held.clean IS NULL THEN p.unclean ELSE NOT held.clean END
  FROM held
 WHERE p.consumer = held.consumer COLLATE "C" AND p.partition = held.partition
RETURNING held.place
