-- Erases what one event carries. ?1 position. Index: the table's key.
UPDATE events SET data = '', content_type = NULL, meta = NULL WHERE position = ?1
