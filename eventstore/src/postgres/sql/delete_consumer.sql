-- Deletes a consumer with all that belongs to it.
-- Binds: $1 name.
-- Lock: its rows. Index: the keys.
DELETE FROM tidewire.consumers WHERE name = $1::text
