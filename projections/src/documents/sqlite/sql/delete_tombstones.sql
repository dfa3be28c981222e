-- Forgets the deleted documents that were deleted first. ?1 generation, ?2 limit
DELETE FROM documents
WHERE generation = ?1 AND key IN
    (SELECT key FROM documents INDEXED BY documents_deleted
     WHERE generation = ?1 AND data IS NULL
     ORDER BY position, key LIMIT ?2)
RETURNING position
