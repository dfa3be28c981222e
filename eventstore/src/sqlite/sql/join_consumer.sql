-- Enters a member, or renews its lease. Runs under the write lock.
-- ?1 consumer, ?2 member, ?3 node, ?4 lease_until
INSERT INTO consumer_members (consumer, member, node, lease_until) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT DO UPDATE SET node = excluded.node, lease_until = excluded.lease_until
