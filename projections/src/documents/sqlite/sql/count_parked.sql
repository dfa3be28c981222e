-- Counts anew what a generation has put aside. ?1 generation
UPDATE projection_generations
SET parked = (SELECT count(*) FROM projection_parked WHERE generation = ?1)
WHERE generation = ?1
