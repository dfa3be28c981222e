-- Asks the owner of a projection for something.
-- Binds: $1 name, $2 what.
-- Lock: the projection's row. Index: projections_pkey.
UPDATE tidewire.projections SET wish = $2::text WHERE name = $1::text
