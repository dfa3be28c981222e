-- Keeps a generation from being written.
-- Binds: $1 generation.
-- Lock: its row. Index: projection_generations_pkey.
SELECT checkpoint FROM tidewire.projection_generations WHERE generation = $1::bigint FOR NO KEY UPDATE
