-- Commands: what was recorded under a command's name and key, in the transaction of its events.

-- One row a command; the rowid rises with time, so that old rows go from the front.
CREATE TABLE commands (
    number      INTEGER NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    key         TEXT    NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 200),
    input       BLOB    NOT NULL CHECK (length(input) = 16), -- digest of what came with it
    execution   BLOB    NOT NULL CHECK (length(execution) = 16),
    revision    INTEGER CHECK (revision >= 0),            -- of its last event, if it had any
    position    INTEGER CHECK (position >= 1),            -- of its last event, if it had any
    recorded_at INTEGER NOT NULL,                         -- microseconds since 1970-01-01 UTC
    result      TEXT    NOT NULL,                         -- JSON, byte for byte
    CHECK ((revision IS NULL) = (position IS NULL))
) STRICT;

CREATE UNIQUE INDEX commands_by_key ON commands (name, key);
