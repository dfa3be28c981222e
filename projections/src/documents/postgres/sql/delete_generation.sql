-- Deletes a generation of which nothing is left.
-- Binds: $1 generation.
-- Lock: its row. Index: projection_generations_pkey.
DELETE FROM tidewire.projection_generations WHERE generation = $1::bigint AND swept
