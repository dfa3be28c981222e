-- Forgets a projection; its generations are nobody's from now on.
-- Binds: $1 name.
-- Lock: the projection's row is held. Index: projections_pkey.
DELETE FROM tidewire.projections WHERE name = $1::text
