-- Makes a projection known. ?1 name, ?2 its first generation
INSERT INTO projections (name, active) VALUES (?1, ?2)
