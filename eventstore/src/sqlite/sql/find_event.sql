-- Whether a certain event stands at a position. Runs under the write lock.
-- ?1 position, ?2 id. Index: the table's key.
SELECT count(*) FROM events WHERE position = ?1 AND id = ?2
