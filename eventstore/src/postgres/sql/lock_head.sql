-- Takes the lock that orders all appends, until the end of the transaction. What a transaction
-- reads in a statement begun after this one is what its appends may rest on.
-- Binds: none. Lock: the row of tidewire.head. Index: none.
SELECT FROM tidewire.head FOR UPDATE
