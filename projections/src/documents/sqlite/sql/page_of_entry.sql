-- The documents of one entry in an index, by key.
-- ?1 generation, ?2 index, ?3 entry, ?4 after this key, ?5 limit
SELECT d.key, d.position, d.data, e.entry
FROM document_entries AS e
CROSS JOIN documents AS d ON d.generation = e.generation AND d.key = e.key
WHERE e.generation = ?1 AND e.number = ?2 AND e.entry = ?3 AND e.key > ?4
  AND d.data IS NOT NULL
ORDER BY e.key
LIMIT ?5
