-- Gives a new log its first epoch. Takes the write lock.
-- ?1 epoch, ?2 began_at
INSERT INTO epochs (epoch, first_position, began_at)
SELECT ?1, 1, ?2 WHERE NOT EXISTS (SELECT 1 FROM epochs)
