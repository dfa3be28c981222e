-- Records one client-made id. Runs inside the append transaction.
-- ?1 id, ?2 stream, ?3 place, ?4 events, ?5 revision, ?6 position, ?7 recorded_at
INSERT INTO requests (id, stream, place, events, revision, position, recorded_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
