-- Renews the leases of members that are due, and reads what has become of their consumers: who
-- the members are, in order; whose the partitions are and their fences, in order; whether there
-- are replays to be told. A member whose lease is renewed here counts as one.
-- Binds: $1 consumers, $2 members, $3 seconds of a lease, $4 renewed when fewer seconds are left,
--        $5 whether replays that were told are told again.
-- Lock: the members' rows. Index: consumer_members_pkey, consumers_pkey, consumer_partitions_pkey,
-- consumer_parked_replaying.
WITH given AS (
    SELECT *
      FROM unnest($1::text[], $2::uuid[]) AS given (consumer, member)),
renewed AS (
    UPDATE tidewire.consumer_members AS m
       SET lease_until = clock_timestamp() + make_interval(secs => $3::float8)
      FROM given
     WHERE m.consumer = given.consumer COLLATE "C" AND m.member = given.member
       AND m.lease_until < clock_timestamp() + make_interval(secs => $4::float8))
SELECT c.name, c.sharing,
       ARRAY(SELECT m.member
               FROM tidewire.consumer_members AS m
              WHERE m.consumer = c.name
                AND (m.lease_until > clock_timestamp() OR m.member = ANY ($2::uuid[]))
              ORDER BY m.member) AS members,
       ARRAY(SELECT p.member
               FROM tidewire.consumer_partitions AS p
              WHERE p.consumer = c.name
              ORDER BY p.partition) AS owners,
       ARRAY(SELECT p.fence
               FROM tidewire.consumer_partitions AS p
              WHERE p.consumer = c.name
              ORDER BY p.partition) AS fences,
       EXISTS (SELECT
                 FROM tidewire.consumer_parked AS r
                WHERE r.consumer = c.name AND r.replaying
                  AND ($5::boolean
                       OR r.told IS DISTINCT FROM (
                          SELECT p.fence
                            FROM tidewire.consumer_partitions AS p
                           WHERE p.consumer = r.consumer AND p.partition = r.partition))
              ) AS replays
  FROM (SELECT DISTINCT consumer COLLATE "C" AS name FROM given) AS names
  JOIN tidewire.consumers AS c ON c.name = names.name
