-- Forgets a wish that was followed, unless there is another by now. ?1 name, ?2 wish
UPDATE projections SET wish = NULL WHERE name = ?1 AND wish = ?2
