-- Prepares a session that reads pages: planned with the limit at hand, a page never sorts what it
-- can take from an index in order.
-- Binds: none. Lock: none. Index: none.
SET plan_cache_mode = force_custom_plan;
SET default_transaction_read_only = on;
