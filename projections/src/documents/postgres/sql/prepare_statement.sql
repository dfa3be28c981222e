-- Gives a statement of a SQL projection the planner as role and database have it.
-- Binds: none. Lock: none. Index: none.
SET LOCAL jit TO DEFAULT;
SET LOCAL enable_seqscan TO DEFAULT;
SET LOCAL enable_bitmapscan TO DEFAULT;
SET LOCAL enable_hashjoin TO DEFAULT;
SET LOCAL enable_mergejoin TO DEFAULT;
