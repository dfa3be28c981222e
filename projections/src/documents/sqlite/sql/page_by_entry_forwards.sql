-- Documents by their entries in an index, equal ones by key.
-- ?1 generation, ?2 index, ?3 entries from here, ?4 with keys after this one where equal to it
-- ?5 entries before here, ?6 limit
SELECT d.key, d.position, d.data, e.entry
FROM document_entries AS e
CROSS JOIN documents AS d ON d.generation = e.generation AND d.key = e.key
WHERE e.generation = ?1 AND e.number = ?2 AND (e.entry, e.key) > (?3, ?4) AND e.entry < ?5
  AND d.data IS NOT NULL
ORDER BY e.entry, e.key
LIMIT ?6
