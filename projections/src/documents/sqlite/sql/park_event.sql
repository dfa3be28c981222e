-- Puts an event aside; again where it was before. ?1 generation, ?2 position, ?3 reason
INSERT INTO projection_parked (generation, position, reason) VALUES (?1, ?2, ?3)
ON CONFLICT (generation, position) DO UPDATE SET reason = excluded.reason
