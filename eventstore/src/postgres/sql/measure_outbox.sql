-- Counts what waits in the outbox, and for how long the oldest of it has, in microseconds.
-- Binds: $1 the seq after which to count, $2 calls at most.
-- Lock: none. Index: outbox_pkey.
SELECT count(*) AS calls,
       coalesce((extract(epoch FROM clock_timestamp() - min(w.enqueued_at)) * 1000000)::bigint, 0)
           AS oldest_micros
  FROM (SELECT enqueued_at FROM tidewire.outbox WHERE seq > $1 ORDER BY seq LIMIT $2) AS w
