-- Tells whether there is a consumer.
-- Binds: $1 name. Lock: none. Index: consumers_pkey.
SELECT EXISTS (SELECT FROM tidewire.consumers WHERE name = $1::text)
