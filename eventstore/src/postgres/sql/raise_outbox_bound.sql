-- Tells tidewire.enqueue how far the outbox was moved, so that it has room for more calls; only when
-- that is a hundredth of its bound or more, as each time leaves a dead row behind.
-- Binds: $1 a seq up to which nothing waits but what was not committed yet.
-- Lock: the row of tidewire.outbox_bounds. Index: none.
UPDATE tidewire.outbox_bounds SET moved_through = $1 WHERE $1 - moved_through > calls_max / 100
