-- Tells whether a certain event stands at a certain position.
-- Binds: $1 position, $2 id.
-- Lock: none. Index: events_pkey.
SELECT EXISTS (SELECT FROM tidewire.events WHERE position = $1::bigint AND id = $2::uuid)
