-- Projections: their documents, how far each has come, and who writes it.

-- The last number that a generation or a fence got: neither is used again, by no projection.
CREATE TABLE projection_numbers (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL CHECK (last BETWEEN 0 AND 9007199254740991)
) STRICT;

INSERT INTO projection_numbers (id, last) VALUES (1, 0);

CREATE TABLE projections (
    name        TEXT    NOT NULL PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 200),
    active      INTEGER NOT NULL,              -- the generation that is read
    building    INTEGER,                       -- the one that is filled beside it
    fence       INTEGER NOT NULL DEFAULT 0,    -- of the last claim; what is older is void
    owner       BLOB    CHECK (length(owner) = 16),
    node        TEXT,
    lease_until INTEGER,                       -- microseconds since 1970-01-01 UTC
    wish        TEXT    CHECK (wish IN ('rebuild', 'cancel', 'resume', 'skip')),
    CHECK (building <> active),
    CHECK ((owner IS NULL) = (node IS NULL) AND (owner IS NULL) = (lease_until IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE projection_generations (
    generation       INTEGER NOT NULL PRIMARY KEY,
    projection       TEXT    NOT NULL,
    version          INTEGER NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('kept', 'retired', 'swept')),
    checkpoint       INTEGER NOT NULL CHECK (checkpoint BETWEEN 0 AND 9007199254740991),
    changes_from     INTEGER NOT NULL DEFAULT 0, -- the last tombstone that was swept
    began_at         INTEGER NOT NULL,
    parked           INTEGER NOT NULL DEFAULT 0, -- rows of projection_parked
    stopped_position INTEGER,
    stopped_reason   TEXT,
    CHECK (stopped_position IS NULL OR stopped_reason IS NOT NULL)
) STRICT;

-- The few that wait for a sweep.
CREATE INDEX projection_generations_retired
    ON projection_generations (generation) WHERE state <> 'kept';

-- A document remembers where it changed last; one without data was deleted there.
CREATE TABLE documents (
    generation INTEGER NOT NULL,
    key        TEXT    NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 200),
    position   INTEGER NOT NULL,
    data       TEXT,
    PRIMARY KEY (generation, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX documents_by_position ON documents (generation, position, key);

-- With the data, which is null: so that counting them needs nothing but the index.
CREATE INDEX documents_deleted ON documents (generation, position, key, data) WHERE data IS NULL;

-- Documents in the order of a projection's indexes.
CREATE TABLE document_entries (
    generation INTEGER NOT NULL,
    number     INTEGER NOT NULL,               -- which index of the projection, from 0
    entry      BLOB    NOT NULL,
    key        TEXT    NOT NULL,
    PRIMARY KEY (generation, number, entry, key)
) STRICT, WITHOUT ROWID;

-- Events that a projection could not take.
CREATE TABLE projection_parked (
    generation INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    PRIMARY KEY (generation, position)
) STRICT, WITHOUT ROWID;
