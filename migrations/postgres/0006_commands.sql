-- Commands: what was recorded under a command's name and key, in the transaction of its events.

CREATE TABLE tidewire.commands (
    name        text        COLLATE "C" NOT NULL,
    key         text        COLLATE "C" NOT NULL,
    input       uuid        NOT NULL,
    execution   uuid        NOT NULL,
    revision    bigint,
    position    bigint,
    recorded_at timestamptz NOT NULL,
    result      json        NOT NULL,
    CONSTRAINT commands_pkey PRIMARY KEY (name, key),
    CONSTRAINT commands_named CHECK (octet_length(name) BETWEEN 1 AND 200),
    CONSTRAINT commands_keyed CHECK (octet_length(key) BETWEEN 1 AND 200),
    CONSTRAINT commands_appended_or_not CHECK ((revision IS NULL) = (position IS NULL))
);

COMMENT ON TABLE tidewire.commands IS
    'The commands of the last days, so that one that is sent again has its first result.';
COMMENT ON COLUMN tidewire.commands.input IS
    'The digest of the data that came with the command: other data under the same key is refused.';
COMMENT ON COLUMN tidewire.commands.execution IS
    'Made by the writer that recorded the command, which finds it by this after a lost answer.';
COMMENT ON COLUMN tidewire.commands.position IS
    'The position of the last event that the command appended, as revision is its revision; NULL where it appended none.';
COMMENT ON COLUMN tidewire.commands.result IS
    'What the client was answered, byte for byte.';

CREATE INDEX commands_recorded_at ON tidewire.commands USING brin (recorded_at);

-- A group with commands is appended by one statement that calls these two around the function
-- that appends: commands_are_new takes the append lock and looks; where a name and key were
-- recorded before, nothing else is called. record_commands is given what the appending function
-- said, and passes it on.
--
-- Both are VOLATILE and run at READ COMMITTED, so that each statement in them has a snapshot of
-- its own: what commands_are_new finds is as of after the lock was held.

-- Whether none of these names and keys was recorded before.
CREATE FUNCTION tidewire.commands_are_new(names text[], keys text[])
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
-- As for append_group: a plan made while the table was small must not be kept.
SET enable_seqscan = off
AS $$
BEGIN
    PERFORM FROM tidewire.head FOR UPDATE;
    RETURN NOT EXISTS (
        SELECT FROM unnest(names, keys) AS n (name, key)
         CROSS JOIN LATERAL (SELECT FROM tidewire.commands AS c
                              WHERE c.name = n.name AND c.key = n.key OFFSET 0) AS c);
END
$$;

-- Records commands if the group that they belong to was appended, which `verdict` tells.
CREATE FUNCTION tidewire.record_commands(
    verdict     text,
    recorded_at timestamptz,
    names       text[],
    keys        text[],
    inputs      uuid[],
    executions  uuid[],
    revisions   bigint[],
    positions   bigint[],
    results     json[])
RETURNS text
LANGUAGE plpgsql
VOLATILE
AS $$
#variable_conflict use_variable
BEGIN
    IF verdict = 'appended' THEN
        INSERT INTO tidewire.commands (name, key, input, execution, revision, position, recorded_at,
                                       result)
        SELECT n.name, n.key, n.input, n.execution, n.revision, n.position, recorded_at, n.result
          FROM unnest(names, keys, inputs, executions, revisions, positions, results)
               AS n (name, key, input, execution, revision, position, result);
    END IF;
    RETURN verdict;
END
$$;
