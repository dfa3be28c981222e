-- Ends the reading of a generation, before its first document is deleted.
-- Binds: $1 generation.
-- Lock: the generation's row. Index: projection_generations_pkey.
UPDATE tidewire.projection_generations SET swept = true WHERE generation = $1::bigint AND NOT swept
