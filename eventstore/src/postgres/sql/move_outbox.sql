-- Moves calls from the outbox into the log: see the function's own words in the migration doors.
-- Binds: $1 the snapshot of the last complete round, or NULL; $2 and $3 the snapshot and the last
--        seq of the round under way, or NULL; $4 events at most, $5 bytes at most.
-- Lock: the row of tidewire.head. Index: outbox_pkey, outbox_transaction, all of events and
--       requests.
SELECT m.round::text AS round, m.after, m.complete, m.head, m.events
  FROM tidewire.move_outbox($1::text::pg_snapshot, $2::text::pg_snapshot, $3, $4, $5) AS m
