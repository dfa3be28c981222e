-- Appends a group, if the log is still as the writer knows it: see the function's own words in
-- the migration append_group.
-- Binds: $1 expected head, $2 expected fence, $3 recorded at, $4 streams taken for new;
--        of each event: $5 revision, $6 id, $7 stream, $8 type, $9 JSON payload, $10 content type,
--        $11 binary payload, $12 metadata;
--        of each client-made id: $13 id, $14 stream, $15 place, $16 events of its append, $17 and
--        $18 revision and position of the append's last event.
-- Lock: the row of tidewire.head. Index: all of events and requests.
SELECT tidewire.append_group($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                             $16, $17, $18)
