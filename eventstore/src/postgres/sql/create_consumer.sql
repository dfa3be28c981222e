-- Creates a consumer with its partitions, if there is none of its name and there are not too many.
-- Fences begin at the present moment in microseconds, beyond those of an earlier consumer of the
-- name.
-- Binds: $1 name, $2 sharing, $3 target, $4 the target's name or NULL, $5 filter or NULL,
--        $6 partitions, $7 first checkpoint, $8 consumers at most.
-- Lock: the new rows. Index: consumers_pkey.
WITH created AS (
    INSERT INTO tidewire.consumers (name, sharing, target, target_name, filter)
    SELECT $1::text, $2::text, $3::text, $4::text, $5::text
     WHERE (SELECT count(*) FROM tidewire.consumers) < $8::bigint
        ON CONFLICT DO NOTHING
    RETURNING name)
INSERT INTO tidewire.consumer_partitions (consumer, partition, fence, checkpoint)
SELECT created.name, given.partition,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $7::bigint
  FROM created CROSS JOIN unnest($6::smallint[]) AS given (partition)
