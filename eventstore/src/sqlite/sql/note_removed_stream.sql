-- Notes how far a stream was removed.
-- ?1 stream, ?2 revision, ?3 position. Index: the key of removed_streams.
INSERT INTO removed_streams (stream, revision, position)
VALUES (?1, ?2, ?3)
ON CONFLICT (stream) DO UPDATE SET revision = excluded.revision, position = excluded.position
