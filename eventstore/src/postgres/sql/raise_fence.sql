-- Makes void every append that is still on its way. The head is locked.
-- Binds: none. Lock: the row of tidewire.head. Index: none.
UPDATE tidewire.head SET fence = fence + 1
