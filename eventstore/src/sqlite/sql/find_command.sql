-- What is recorded under a command's name and key.
-- ?1 name, ?2 key. Index: commands_by_key.
SELECT input, execution, revision, position, result
FROM commands
WHERE name = ?1 AND key = ?2
