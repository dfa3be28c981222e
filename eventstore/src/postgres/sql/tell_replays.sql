-- Notes which parked events their partitions' owners are told to deliver again, and returns them:
-- those asked for and not told to this claim, as many as keep the number under way within bounds.
-- What is being changed otherwise just now is told the next time.
-- Binds: $1 consumers, $2 partitions, $3 fences, $4 under way at most, $5 whether those told are
--        told again.
-- Lock: the parked events' rows. Index: consumer_parked_replaying, consumer_parked_pkey.
WITH given AS (
    SELECT *
      FROM unnest($1::text[], $2::smallint[], $3::bigint[])
           WITH ORDINALITY AS given (consumer, partition, fence, place)),
chosen AS MATERIALIZED (
    SELECT given.place, given.consumer, given.fence, untold.position
      FROM given
     CROSS JOIN LATERAL (
           SELECT p.position
             FROM tidewire.consumer_parked AS p
            WHERE p.consumer = given.consumer AND p.partition = given.partition AND p.replaying
              AND (p.told IS NULL OR p.told < given.fence OR $5::boolean AND p.told = given.fence)
            ORDER BY p.position
            LIMIT greatest(0, $4::bigint - (
                  SELECT count(*)
                    FROM tidewire.consumer_parked AS t
                   WHERE t.consumer = given.consumer AND t.partition = given.partition
                     AND t.replaying AND t.told = given.fence AND NOT $5::boolean))
              FOR UPDATE SKIP LOCKED) AS untold)
UPDATE tidewire.consumer_parked AS p
   SET told = chosen.fence
  FROM chosen
 WHERE p.consumer = chosen.consumer AND p.position = chosen.position
RETURNING chosen.place, p.position, p.attempts
