-- Looks whether any call of tidewire.enqueue waits.
-- Binds: none. Lock: none. Index: outbox_pkey.
SELECT EXISTS (SELECT FROM tidewire.outbox)
