-- Enters a member, or renews its lease, and tells whether the consumer has other members.
-- Binds: $1 consumer, $2 member, $3 node, $4 seconds of the lease.
-- Lock: the member's row. Index: consumer_members_pkey.
INSERT INTO tidewire.consumer_members (consumer, member, node, lease_until)
VALUES ($1::text, $2::uuid, $3::text, clock_timestamp() + make_interval(secs => $4::float8))
    ON CONFLICT (consumer, member) DO UPDATE
   SET node = excluded.node, lease_until = excluded.lease_until
RETURNING EXISTS (SELECT
                    FROM tidewire.consumer_members AS other
                   WHERE other.consumer = $1::text AND other.member <> $2::uuid) AS others
