-- One consumer with its holders and partitions.
-- ?1 name, ?2 now. Index: the tables' keys.
SELECT c.name, c.sharing, c.target, c.target_name, c.filter, c.created_at, c.parked,
    (SELECT json_group_array(json_array(hex(m.member), m.node) ORDER BY m.member)
        FROM consumer_members AS m WHERE m.consumer = c.name AND m.lease_until > ?2),
    (SELECT json_group_array(hex(p.member) ORDER BY p.partition)
        FROM consumer_partitions AS p WHERE p.consumer = c.name),
    (SELECT min(p.checkpoint) FROM consumer_partitions AS p WHERE p.consumer = c.name)
FROM consumers AS c
WHERE c.name = ?1
