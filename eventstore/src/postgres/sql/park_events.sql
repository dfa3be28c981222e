-- Parks events, or notes anew how those fared that are parked already.
-- Binds: $1 consumers, $2 positions, $3 partitions, $4 attempts, $5 reasons.
-- Lock: the consumers' rows are held. Index: consumer_parked_pkey.
INSERT INTO tidewire.consumer_parked (consumer, position, partition, attempts, reason)
SELECT *
  FROM unnest($1::text[], $2::bigint[], $3::smallint[], $4::bigint[], $5::text[])
    ON CONFLICT (consumer, position) DO UPDATE
   SET partition = excluded.partition, attempts = excluded.attempts, reason = excluded.reason,
       parked_at = excluded.parked_at, replaying = false, told = NULL
