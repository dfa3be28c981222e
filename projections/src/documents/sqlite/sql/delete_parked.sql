-- Deletes some of what a generation has put aside. ?1 generation, ?2 limit
DELETE FROM projection_parked
WHERE generation = ?1 AND position IN
    (SELECT position FROM projection_parked WHERE generation = ?1 LIMIT ?2)
