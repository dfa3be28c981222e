-- Begins a generation.
-- ?1 generation, ?2 projection, ?3 version, ?4 now
INSERT INTO projection_generations (generation, projection, version, state, checkpoint, began_at)
VALUES (?1, ?2, ?3, 'kept', 0, ?4)
