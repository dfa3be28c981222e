-- Finds what is recorded under the names and keys of commands.
-- Binds: $1 names, $2 keys.
-- Lock: none. Index: commands_pkey.
SELECT c.name, c.key, c.input, c.execution, c.revision, c.position, c.result::text AS result
  FROM unnest($1::text[], $2::text[]) AS n (name, key)
 CROSS JOIN LATERAL (SELECT name, key, input, execution, revision, position, result
                       FROM tidewire.commands
                      WHERE name = n.name AND key = n.key OFFSET 0) AS c
