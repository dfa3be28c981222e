-- Records one command. Runs inside the append transaction.
-- ?1 name, ?2 key, ?3 input, ?4 execution, ?5 revision, ?6 position, ?7 recorded_at, ?8 result
INSERT INTO commands (name, key, input, execution, revision, position, recorded_at, result)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
