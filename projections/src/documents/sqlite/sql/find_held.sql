-- The generations of a projection that is held. ?1 name, ?2 fence
SELECT active, building FROM projections WHERE name = ?1 AND fence = ?2 AND owner IS NOT NULL
