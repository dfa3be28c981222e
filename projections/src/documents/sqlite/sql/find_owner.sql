-- Who may write a projection, and until when. ?1 name
SELECT owner, lease_until FROM projections WHERE name = ?1
