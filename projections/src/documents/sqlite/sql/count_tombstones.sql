-- How many deleted documents a generation remembers. ?1 generation
SELECT count(*) FROM documents WHERE generation = ?1 AND data IS NULL
