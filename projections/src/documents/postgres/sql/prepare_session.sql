-- Prepares a session, whatever the defaults of role and database say. Every statement of ours goes
-- by an index; without these settings a plan made while a table was small would read it all. A
-- session that lost its client lets go of what it has locked within seconds, so that another node
-- can take a projection over.
-- Binds: none. Lock: none. Index: none.
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET lock_timeout = '5s';
SET statement_timeout = '30s';
SET idle_in_transaction_session_timeout = '4s';
SET jit = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
