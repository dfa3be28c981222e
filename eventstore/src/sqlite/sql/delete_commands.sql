-- Forgets the oldest commands, a few at a time.
-- ?1 recorded before this moment go, ?2 at most so many. Index: the table's beginning.
DELETE FROM commands
WHERE number IN (SELECT number FROM commands ORDER BY number LIMIT ?2) AND recorded_at < ?1
