-- The records of client-made ids. Runs inside the append transaction.
-- ?1 JSON array of ids as hexadecimal digits. Index: the unique one on requests.id.
SELECT id, stream, place, events, revision, position
FROM requests
WHERE id IN (SELECT unhex(value) FROM json_each(?1))
