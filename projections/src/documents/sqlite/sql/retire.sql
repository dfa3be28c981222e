-- Nobody writes a generation any more. ?1 generation
UPDATE projection_generations SET state = 'retired' WHERE generation = ?1
