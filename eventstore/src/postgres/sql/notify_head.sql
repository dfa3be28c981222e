-- Tells the listeners that somebody committed, with the head as a hint.
-- Binds: $1 the head as text. Lock: none. Index: none.
SELECT pg_notify('tidewire', $1::text)
