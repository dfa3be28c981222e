-- Lets a session that changes nothing of worth commit without waiting for the disk.
-- Binds: none. Lock: none. Index: none.
SET synchronous_commit = off;
