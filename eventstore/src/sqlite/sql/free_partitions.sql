-- Frees what is owned by nobody who is a member. Runs under the write lock.
-- ?1 consumer. Index: the tables' keys.
UPDATE consumer_partitions SET member = NULL
WHERE consumer = ?1 AND member NOT IN (SELECT member FROM consumer_members WHERE consumer = ?1)
