-- What changed after a position; whoever reads it stops where it has enough.
-- ?1 generation, ?2 after
SELECT key, position, data FROM documents
WHERE generation = ?1 AND position > ?2
ORDER BY position, key
