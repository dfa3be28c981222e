-- How many deleted documents a generation remembers. ?1 generation
-- The planner would rather count in the table, documents and all.
SELECT count(*) FROM documents INDEXED BY documents_deleted
WHERE generation = ?1 AND data IS NULL
