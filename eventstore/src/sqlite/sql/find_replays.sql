-- The replays that a claim is to be told, in order: those asked for and not told to it, as many as
-- keep the number under way within bounds. Runs under the write lock.
-- ?1 consumer, ?2 partition, ?3 fence, ?4 under way at most, ?5 whether those told are told again.
-- Index: consumer_parked_replaying.
SELECT position, attempts
FROM consumer_parked INDEXED BY consumer_parked_replaying
WHERE consumer = ?1 AND partition = ?2 AND replaying
    AND (told IS NULL OR told < ?3 OR ?5 AND told = ?3)
ORDER BY position
LIMIT max(0, ?4 - (
    SELECT count(*) FROM consumer_parked INDEXED BY consumer_parked_replaying
    WHERE consumer = ?1 AND partition = ?2 AND replaying AND told = ?3 AND NOT ?5
))
