-- Deletes some documents of a generation. ?1 generation, ?2 limit
DELETE FROM documents
WHERE generation = ?1 AND key IN (SELECT key FROM documents WHERE generation = ?1 LIMIT ?2)
