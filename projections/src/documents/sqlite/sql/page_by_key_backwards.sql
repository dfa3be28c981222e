-- Documents by key, from the last.
-- ?1 generation, ?2 before this key (null: from the end; a blob is greater than every text), ?3 limit
SELECT key, position, data FROM documents
WHERE generation = ?1 AND key < coalesce(?2, x'') AND data IS NOT NULL
ORDER BY key DESC
LIMIT ?3
