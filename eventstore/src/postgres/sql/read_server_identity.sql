-- Reads which database cluster this is, and which of its histories: a restored, cloned or promoted
-- server differs in one of them. A role may lack the right to ask.
-- Binds: none. Lock: none. Index: none.
SELECT pg_is_in_recovery() AS standby,
       (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
       CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer
       END AS timeline
