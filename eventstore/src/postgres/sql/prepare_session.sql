-- Prepares a session, whatever the defaults of role and database say. Every statement of ours goes
-- by an index; without these settings a plan made while a table was small, or had no statistics
-- yet, would read it all. The time-outs see to it that a session which lost its client lets go of
-- the append lock, and that nobody waits for it without end.
-- Binds: none. Lock: none. Index: none.
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET lock_timeout = '5s';
SET statement_timeout = '30s';
SET idle_in_transaction_session_timeout = '10s';
SET jit = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
