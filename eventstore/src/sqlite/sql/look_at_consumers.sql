-- What has become of consumers: their members with their leases, in order; whose the partitions
-- are and their fences, in order; whether there are replays to be told.
-- ?1 JSON array of names, ?2 whether replays that were told are told again. Index: the tables'
-- keys, consumer_parked_replaying.
SELECT c.name, c.sharing,
    (SELECT json_group_array(json_array(hex(m.member), m.lease_until) ORDER BY m.member)
        FROM consumer_members AS m WHERE m.consumer = c.name),
    (SELECT json_group_array(json_array(hex(p.member), p.fence) ORDER BY p.partition)
        FROM consumer_partitions AS p WHERE p.consumer = c.name),
    EXISTS (
        SELECT 1 FROM consumer_parked AS r INDEXED BY consumer_parked_replaying
        WHERE r.consumer = c.name AND r.replaying AND (?2 OR r.told IS NOT (
            SELECT p.fence FROM consumer_partitions AS p
            WHERE p.consumer = r.consumer AND p.partition = r.partition
        ))
    )
FROM (SELECT DISTINCT value AS name FROM json_each(?1)) AS given
CROSS JOIN consumers AS c ON c.name = given.name
