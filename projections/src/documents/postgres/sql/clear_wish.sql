-- Forgets a wish, if it is still the same. No row: another fence.
-- Binds: $1 name, $2 fence, $3 the wish.
-- Lock: the projection's row. Index: projections_fence.
UPDATE tidewire.projections
   SET wish = nullif(wish, $3::text)
 WHERE name = $1::text AND fence = $2::bigint AND owner IS NOT NULL
