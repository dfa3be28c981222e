-- Sets down how many parked events consumers have. Runs under the write lock.
-- ?1 JSON array of pairs of a consumer and a number. Index: the table's key.
UPDATE consumers SET parked = given.parked
FROM (SELECT value ->> 0 AS name, value ->> 1 AS parked FROM json_each(?1)) AS given
WHERE consumers.name = given.name
