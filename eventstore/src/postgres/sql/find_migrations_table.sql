-- Tells whether there is a record of migrations.
-- Binds: none. Lock: none. Index: none.
SELECT to_regclass('tidewire.migrations') IS NOT NULL
