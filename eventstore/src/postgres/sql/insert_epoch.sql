-- Begins an epoch after the present head. The head is locked.
-- Binds: $1 epoch, $2 system identifier (NULL: unknown), $3 timeline (NULL: unknown).
-- Lock: rows inserted. Index: epochs_pkey, events_pkey.
INSERT INTO tidewire.epochs (ordinal, epoch, first_position, began_at, system_identifier, timeline)
SELECT (SELECT coalesce(max(ordinal), 0) + 1 FROM tidewire.epochs), $1::uuid,
       (SELECT coalesce(max(position), 0) + 1 FROM tidewire.events), clock_timestamp(),
       $2::bigint, $3::integer
RETURNING epoch, first_position, began_at
