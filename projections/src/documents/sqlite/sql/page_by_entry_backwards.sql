-- Documents by their entries in an index, from the last; equal ones by ascending key, so that the
-- entries alone come from the table's order and equal ones are sorted as they come.
-- ?1 generation, ?2 index, ?3 entries from here, ?4 before here, ?5 limit
SELECT d.key, d.position, d.data, e.entry
FROM document_entries AS e
CROSS JOIN documents AS d ON d.generation = e.generation AND d.key = e.key
WHERE e.generation = ?1 AND e.number = ?2 AND e.entry >= ?3 AND e.entry < ?4
  AND d.data IS NOT NULL
ORDER BY e.entry DESC, e.key
LIMIT ?5
