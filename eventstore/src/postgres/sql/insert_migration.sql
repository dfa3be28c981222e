-- Records a migration.
-- Binds: $1 version, $2 name, $3 content.
-- Lock: the migrations' advisory lock is held. Index: migrations_pkey.
INSERT INTO tidewire.migrations (version, name, checksum)
VALUES ($1::integer, $2::text, sha256(convert_to($3::text, 'UTF8')))
