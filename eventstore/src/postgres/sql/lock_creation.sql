-- Takes the lock under which consumers are created, so that they can be counted. Its key is
-- `consumer` in ASCII.
-- Binds: none. Lock: an advisory one, to the end of the transaction. Index: none.
SELECT pg_advisory_xact_lock(7165066974340146546)
