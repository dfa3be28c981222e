-- Hands a projection over.
-- ?1 name, ?2 fence, ?3 owner, ?4 node, ?5 until when
UPDATE projections SET fence = ?2, owner = ?3, node = ?4, lease_until = ?5 WHERE name = ?1
