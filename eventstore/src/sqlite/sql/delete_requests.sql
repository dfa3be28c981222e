-- Forgets the oldest records of client-made ids, a few at a time.
-- ?1 records made before this moment go, ?2 at most so many. Index: the table's beginning.
DELETE FROM requests
WHERE number IN (SELECT number FROM requests ORDER BY number LIMIT ?2) AND recorded_at < ?1
