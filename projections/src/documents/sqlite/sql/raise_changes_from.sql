-- Remembers which deletions are told no more. ?1 generation, ?2 the last of them
UPDATE projection_generations SET changes_from = max(changes_from, ?2) WHERE generation = ?1
