-- What is known of projections, by name.
-- ?1 only this one; all of them where null
-- ?2 now: a lease that has run out is nobody's
SELECT p.name, p.fence, p.wish, iif(p.lease_until > ?2, p.node, NULL), p.lease_until,
       a.generation, a.version, a.checkpoint, a.began_at, a.parked, a.changes_from,
       a.stopped_position, a.stopped_reason,
       b.generation, b.version, b.checkpoint, b.began_at, b.parked, b.changes_from,
       b.stopped_position, b.stopped_reason
FROM projections AS p
JOIN projection_generations AS a ON a.generation = p.active
LEFT JOIN projection_generations AS b ON b.generation = p.building
WHERE ?1 IS NULL OR p.name = ?1
ORDER BY p.name
