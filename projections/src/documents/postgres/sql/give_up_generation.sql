-- Retires the generation that is built.
-- Binds: $1 name of the projection.
-- Lock: the projection's row is held. Index: projections_pkey.
UPDATE tidewire.projections SET building = NULL WHERE name = $1::text
