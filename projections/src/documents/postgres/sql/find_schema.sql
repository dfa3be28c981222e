-- Tells whether the schema has what documents need.
-- Binds: none. Lock: none. Index: none.
SELECT to_regclass('tidewire.documents') IS NOT NULL
