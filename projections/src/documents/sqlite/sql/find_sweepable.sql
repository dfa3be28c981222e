-- A generation that nobody reads: of a projection, or of one that is not there any more.
-- ?1 name
SELECT generation FROM projection_generations
WHERE state <> 'kept'
  AND (projection = ?1 OR projection NOT IN (SELECT name FROM projections))
ORDER BY generation
LIMIT 1
