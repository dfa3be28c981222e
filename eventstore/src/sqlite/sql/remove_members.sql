-- Removes members whose leases are over, or all but one. Runs under the write lock.
-- ?1 consumer, ?2 the member that stays, ?3 those whose lease ends by now go (all others where it
-- is null). Index: the table's key.
DELETE FROM consumer_members
WHERE consumer = ?1 AND member <> ?2 AND (?3 IS NULL OR lease_until <= ?3)
