-- Deletes the rows of a consumer that is being deleted. Runs under the write lock.
-- ?1 consumer. Index: the table's key.
DELETE FROM consumer_parked WHERE consumer = ?1
