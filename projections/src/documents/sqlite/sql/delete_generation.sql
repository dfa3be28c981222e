-- Deletes what is left of a generation. ?1 generation
DELETE FROM projection_generations WHERE generation = ?1
