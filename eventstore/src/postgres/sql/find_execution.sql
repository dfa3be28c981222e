-- Tells whether a certain execution is what was recorded under its command's name and key.
-- Binds: $1 name, $2 key, $3 execution.
-- Lock: none. Index: commands_pkey.
SELECT EXISTS (SELECT FROM tidewire.commands
                WHERE name = $1::text AND key = $2::text AND execution = $3::uuid)
