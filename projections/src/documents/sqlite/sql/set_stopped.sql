-- Why a generation goes no further; nulls: it goes on. ?1 generation, ?2 position, ?3 reason
UPDATE projection_generations SET stopped_position = ?2, stopped_reason = ?3
WHERE generation = ?1
