-- Appends a group with commands, or nothing: the group as by append_group, unless a command was
-- recorded before (`unforeseen`); then the commands, if the group was appended.
-- Binds: $1 to $18 as in append_group; of each command: $19 name, $20 key, $21 digest of its data,
--        $22 execution, $23 and $24 revision and position of its last event (NULL: it had none),
--        $25 result.
-- Lock: the row of tidewire.head. Index: all of events, requests and commands.
SELECT CASE WHEN tidewire.commands_are_new($19, $20)
            THEN tidewire.record_commands(
                     tidewire.append_group($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
                                           $14, $15, $16, $17, $18),
                     $3, $19, $20, $21, $22, $23, $24, $25)
            ELSE 'unforeseen'
       END
