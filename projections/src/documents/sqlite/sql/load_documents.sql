-- The documents of some keys. ?1 generation, ?2 JSON array of keys
SELECT d.key, d.position, d.data
FROM json_each(?2) AS wanted
CROSS JOIN documents AS d ON d.generation = ?1 AND d.key = wanted.value
WHERE d.data IS NOT NULL
