-- Forgets a projection that no owner's lease runs for. ?1 name, ?2 now
DELETE FROM projections WHERE name = ?1 AND (lease_until IS NULL OR lease_until <= ?2)
