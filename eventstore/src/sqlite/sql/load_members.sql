-- The members of a consumer whose leases run, in order. Runs under the write lock.
-- ?1 consumer, ?2 now. Index: the table's key.
SELECT member FROM consumer_members
WHERE consumer = ?1 AND lease_until > ?2
ORDER BY member
