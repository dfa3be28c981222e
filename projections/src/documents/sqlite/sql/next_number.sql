-- A number for a generation or a fence. Holds the write lock.
UPDATE projection_numbers SET last = last + 1 WHERE id = 1
RETURNING last
