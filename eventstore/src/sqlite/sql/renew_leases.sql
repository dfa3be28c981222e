-- Renews leases. Takes the write lock.
-- ?1 JSON array of pairs of a consumer and a member as hexadecimal digits, ?2 lease_until.
-- Index: the table's key.
UPDATE consumer_members SET lease_until = ?2
FROM (SELECT value ->> 0 AS consumer, unhex(value ->> 1) AS member FROM json_each(?1)) AS given
WHERE consumer_members.consumer = given.consumer AND consumer_members.member = given.member
