-- Forgets some of the commands that are too old to be sent again.
-- Binds: $1 age in seconds, $2 rows at most.
-- Lock: the rows deleted. Index: commands_recorded_at.
DELETE FROM tidewire.commands
 WHERE ctid = ANY (ARRAY(
    SELECT ctid
      FROM tidewire.commands
     WHERE recorded_at < clock_timestamp() - $1::bigint * interval '1 second'
     LIMIT $2::bigint
       FOR UPDATE SKIP LOCKED))
