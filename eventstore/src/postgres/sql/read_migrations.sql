-- Reads which migrations were applied, oldest first, and whether each is as this program has it
-- (NULL: this program does not know it).
-- Binds: $1 versions known, $2 their content.
-- Lock: none. Index: migrations_pkey.
SELECT m.version, m.checksum = sha256(convert_to(known.content, 'UTF8')) AS same
  FROM tidewire.migrations AS m
  LEFT JOIN unnest($1::integer[], $2::text[]) AS known (version, content)
    ON known.version = m.version
 ORDER BY m.version
