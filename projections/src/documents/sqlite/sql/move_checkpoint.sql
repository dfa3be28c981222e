-- Moves a checkpoint that is where it is expected to be.
-- ?1 generation, ?2 expected, ?3 position
UPDATE projection_generations SET checkpoint = ?3 WHERE generation = ?1 AND checkpoint = ?2
