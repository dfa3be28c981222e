-- Lets go of a projection. ?1 name, ?2 fence
UPDATE projections SET owner = NULL, node = NULL, lease_until = NULL
WHERE name = ?1 AND fence = ?2
