-- Begins an epoch after the head. Takes the write lock.
-- ?1 epoch, ?2 began_at
INSERT INTO epochs (epoch, first_position, began_at)
SELECT ?1, coalesce(max(position), 0) + 1, ?2 FROM events
RETURNING first_position
