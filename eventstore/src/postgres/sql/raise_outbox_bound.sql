-- Tells tidewire.enqueue how far the outbox was moved, so that it has room for more calls.
-- Binds: $1 a seq up to which nothing waits but what was not committed yet.
-- Lock: the row of tidewire.outbox_bounds. Index: none.
UPDATE tidewire.outbox_bounds SET moved_through = $1 WHERE moved_through < $1
