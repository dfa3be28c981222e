-- Hands partitions over to a member, under new fences, and takes from it what else it had. Tells
-- whether the consumer has replays under way.
-- Binds: $1 consumer, $2 member, $3 the partitions.
-- Lock: the consumer's row is held; the rows of the partitions. Index: consumer_partitions_pkey,
-- consumer_parked_replaying.
WITH before AS (
    SELECT partition, unclean
      FROM tidewire.consumer_partitions
     WHERE consumer = $1::text
       AND (partition = ANY ($3::smallint[]) OR member = $2::uuid)
     ORDER BY partition
       FOR UPDATE),
changed AS (
    UPDATE tidewire.consumer_partitions AS p
       SET fence = CASE WHEN p.partition = ANY ($3::smallint[]) THEN p.fence + 1 ELSE p.fence END,
           member = CASE WHEN p.partition = ANY ($3::smallint[]) THEN $2::uuid END,
           unclean = p.unclean OR p.partition = ANY ($3::smallint[])
      FROM before
     WHERE p.consumer = $1::text AND p.partition = before.partition
    RETURNING p.partition, p.fence, p.member, p.checkpoint, before.unclean, p.attempts)
SELECT partition, fence, checkpoint, unclean, attempts,
       EXISTS (SELECT
                 FROM tidewire.consumer_parked AS r
                WHERE r.consumer = $1::text AND r.replaying) AS replays
  FROM changed
 WHERE member IS NOT NULL
 ORDER BY partition
