-- How far a generation has come, if it can be read. ?1 generation
SELECT g.checkpoint, g.changes_from, coalesce(p.active = g.generation, 0)
FROM projection_generations AS g
LEFT JOIN projections AS p ON p.name = g.projection
WHERE g.generation = ?1 AND g.state <> 'swept'
