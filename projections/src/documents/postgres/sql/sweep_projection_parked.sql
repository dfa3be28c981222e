-- Deletes events put aside of a generation that nobody reads any more.
-- Binds: $1 generation, $2 rows at most.
-- Lock: the rows. Index: projection_parked_pkey.
DELETE FROM tidewire.projection_parked
 WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM tidewire.projection_parked WHERE generation = $1::bigint LIMIT $2::bigint))
