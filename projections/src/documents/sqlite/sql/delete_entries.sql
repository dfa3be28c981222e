-- Deletes some index entries of a generation. ?1 generation, ?2 limit
DELETE FROM document_entries
WHERE generation = ?1 AND (number, entry, key) IN
    (SELECT number, entry, key FROM document_entries WHERE generation = ?1 LIMIT ?2)
