-- From now on nobody can read a projection's generations. ?1 name
UPDATE projection_generations SET state = 'swept' WHERE projection = ?1
