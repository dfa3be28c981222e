-- A page of consumers by name, each with its holders and partitions.
-- ?1 after this name or null, ?2 at most so many, ?3 now. Index: the tables' keys.
SELECT c.name, c.sharing, c.target, c.target_name, c.filter, c.created_at, c.parked,
    (SELECT json_group_array(json_array(hex(m.member), m.node) ORDER BY m.member)
        FROM consumer_members AS m WHERE m.consumer = c.name AND m.lease_until > ?3),
    (SELECT json_group_array(hex(p.member) ORDER BY p.partition)
        FROM consumer_partitions AS p WHERE p.consumer = c.name),
    (SELECT min(p.checkpoint) FROM consumer_partitions AS p WHERE p.consumer = c.name)
FROM consumers AS c
WHERE c.name > coalesce(?1, '')
ORDER BY c.name
LIMIT ?2
