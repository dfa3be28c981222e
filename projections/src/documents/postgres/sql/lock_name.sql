-- Tells whether somebody owns a projection, and keeps it as it is.
-- Binds: $1 name.
-- Lock: the projection's row. Index: projections_pkey.
SELECT owner IS NOT NULL AND lease_until > clock_timestamp() AS owned
  FROM tidewire.projections
 WHERE name = $1::text
   FOR UPDATE
