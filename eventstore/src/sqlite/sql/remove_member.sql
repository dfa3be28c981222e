-- Removes a member. Takes the write lock.
-- ?1 consumer, ?2 member. Index: the table's key.
DELETE FROM consumer_members WHERE consumer = ?1 AND member = ?2
