-- What was put aside, by position. ?1 generation, ?2 after, ?3 limit
SELECT position, reason FROM projection_parked
WHERE generation = ?1 AND position > ?2
ORDER BY position
LIMIT ?3
