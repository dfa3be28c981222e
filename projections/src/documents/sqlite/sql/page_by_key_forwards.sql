-- Documents by key. ?1 generation, ?2 after this key, ?3 limit
SELECT key, position, data FROM documents
WHERE generation = ?1 AND key > ?2 AND data IS NOT NULL
ORDER BY key
LIMIT ?3
