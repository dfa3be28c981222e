-- Lets this transaction commit without waiting for the disk: what a crash loses of it is projected
-- again. Nothing but commits of documents may do so; a claim that got lost would let its fence be
-- given to two owners.
-- Binds: none. Lock: none. Index: none.
SET LOCAL synchronous_commit = off
