-- A page of a consumer's parked events, with what the log says about them.
-- ?1 consumer, ?2 after this position, ?3 at most so many. Index: the tables' keys.
SELECT p.position, e.stream, e.type, p.attempts, p.reason, p.parked_at, p.replaying
FROM consumer_parked AS p
LEFT JOIN events AS e ON e.position = p.position
WHERE p.consumer = ?1 AND p.position > ?2
ORDER BY p.position
LIMIT ?3
