-- Asks something of a projection's owner. ?1 name, ?2 wish
UPDATE projections SET wish = ?2 WHERE name = ?1
