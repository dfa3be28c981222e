-- Creates a consumer, unless there are too many. Takes the write lock.
-- ?1 name, ?2 sharing, ?3 target, ?4 the target's name or null, ?5 filter or null, ?6 created_at,
-- ?7 consumers at most
INSERT INTO consumers (name, sharing, target, target_name, filter, created_at)
SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE (SELECT count(*) FROM consumers) < ?7
