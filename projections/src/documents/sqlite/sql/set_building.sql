-- What is built from now on, if anything. ?1 name, ?2 generation
UPDATE projections SET building = ?2 WHERE name = ?1
