-- Appends the notice of an erasure.
-- ?1 position, ?2 revision, ?3 recorded_at, ?4 id, ?5 stream, ?6 data
INSERT INTO events (position, revision, recorded_at, id, stream, type, data)
VALUES (?1, ?2, ?3, ?4, ?5, '$erased', ?6)
