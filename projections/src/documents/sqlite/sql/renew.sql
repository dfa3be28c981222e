-- Lets the owner's lease run on. ?1 name, ?2 fence, ?3 until when
UPDATE projections SET lease_until = ?3 WHERE name = ?1 AND fence = ?2 AND owner IS NOT NULL
