-- From now on nobody can read a generation. ?1 generation
UPDATE projection_generations SET state = 'swept' WHERE generation = ?1
