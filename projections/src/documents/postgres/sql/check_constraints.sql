-- Checks what constraints were deferred by a statement of a SQL projection, while the blame is
-- still its own.
-- Binds: none. Lock: none. Index: none.
SET CONSTRAINTS ALL IMMEDIATE
