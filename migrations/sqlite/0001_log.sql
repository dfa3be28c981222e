-- The log: events, the record of idempotent appends, and the log's epochs.

-- One row an event. `position` is the rowid, so inserts go to the end of the table.
CREATE TABLE events (
    position     INTEGER NOT NULL PRIMARY KEY CHECK (position BETWEEN 1 AND 9007199254740991),
    revision     INTEGER NOT NULL CHECK (revision BETWEEN 0 AND 9007199254740991),
    recorded_at  INTEGER NOT NULL,                        -- microseconds since 1970-01-01 UTC
    id           BLOB    NOT NULL CHECK (length(id) = 16),
    stream       TEXT    NOT NULL CHECK (octet_length(stream) BETWEEN 1 AND 200),
    -- The text before the first `-`, or the whole name.
    category     TEXT    NOT NULL GENERATED ALWAYS AS
                 (substr(stream, 1, instr(stream || '-', '-') - 1)) VIRTUAL
                 CHECK (category <> ''),
    type         TEXT    NOT NULL CHECK (octet_length(type) BETWEEN 1 AND 200),
    data         ANY     NOT NULL,                        -- text for JSON, else a blob
    content_type TEXT    CHECK (octet_length(content_type) BETWEEN 1 AND 200),
    meta         TEXT,
    CHECK (typeof(data) = CASE WHEN content_type IS NULL THEN 'text' ELSE 'blob' END)
) STRICT;

CREATE UNIQUE INDEX events_by_stream ON events (stream, revision);
CREATE INDEX events_by_category ON events (category, position);
CREATE INDEX events_by_type ON events (type, position);

-- Positions and revisions have no holes, whoever writes.
CREATE TRIGGER events_have_no_holes BEFORE INSERT ON events
WHEN NEW.position <> (SELECT coalesce(max(position), 0) + 1 FROM events)
    OR NEW.revision <> (
        SELECT coalesce(max(revision), -1) + 1 FROM events WHERE stream = NEW.stream
    )
BEGIN
    SELECT raise(ABORT, 'the position or the revision leaves a hole');
END;

-- One row a client-made id; the rowid rises with time, so that old rows go from the front.
CREATE TABLE requests (
    number      INTEGER NOT NULL PRIMARY KEY,
    id          BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    stream      TEXT    NOT NULL,
    place       INTEGER NOT NULL CHECK (place >= 0),      -- of the event in its append
    events      INTEGER NOT NULL CHECK (events > place),  -- of the append
    revision    INTEGER NOT NULL CHECK (revision >= 0),   -- of the append's last event
    position    INTEGER NOT NULL CHECK (position >= 1),   -- of the append's last event
    recorded_at INTEGER NOT NULL
) STRICT;

-- The lives of the log, in order.
CREATE TABLE epochs (
    number         INTEGER NOT NULL PRIMARY KEY,
    epoch          BLOB    NOT NULL UNIQUE CHECK (length(epoch) = 16),
    first_position INTEGER NOT NULL CHECK (first_position >= 1),
    began_at       INTEGER NOT NULL
) STRICT;
