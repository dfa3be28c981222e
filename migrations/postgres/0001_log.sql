-- The log: events in one gapless order, the lock that makes the order, the memory of appends with
-- client-made ids, and the epochs.
--
-- The order: whoever appends locks the one row of tidewire.head, and only then looks for the last
-- position, in a statement begun after the lock was held. An append does not update the row, so that
-- no dead versions of it pile up beside a long foreign transaction.

CREATE TABLE tidewire.head (
    singleton boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (singleton),
    fence     bigint  NOT NULL DEFAULT 0
);

COMMENT ON TABLE tidewire.head IS
    'One row, locked FOR UPDATE by whoever appends.';
COMMENT ON COLUMN tidewire.head.fence IS
    'Raised by whoever lost the answer to an append and did not find it recorded: an append that rests on an older fence, still on its way, is void.';

INSERT INTO tidewire.head DEFAULT VALUES;

CREATE TABLE tidewire.events (
    position     bigint      NOT NULL PRIMARY KEY,
    revision     bigint      NOT NULL,
    recorded_at  timestamptz NOT NULL,
    id           uuid        NOT NULL,
    stream       text        COLLATE "C" NOT NULL,
    category     text        COLLATE "C" NOT NULL GENERATED ALWAYS AS (split_part(stream, '-', 1)) STORED,
    type         text        COLLATE "C" NOT NULL,
    data         json,
    content_type text        COLLATE "C",
    bytes        bytea,
    meta         json,
    CONSTRAINT events_position_exact CHECK (position BETWEEN 1 AND 9007199254740991),
    CONSTRAINT events_revision_exact CHECK (revision BETWEEN 0 AND 9007199254740991),
    CONSTRAINT events_stream_named CHECK (octet_length(stream) <= 200 AND category <> ''),
    CONSTRAINT events_type_named CHECK (octet_length(type) BETWEEN 1 AND 200),
    CONSTRAINT events_payload_json_or_binary CHECK (
        CASE WHEN data IS NULL
             THEN bytes IS NOT NULL AND content_type IS NOT NULL
             ELSE bytes IS NULL AND content_type IS NULL
        END),
    CONSTRAINT events_stream_revision UNIQUE (stream, revision)
);

COMMENT ON TABLE tidewire.events IS
    'The log. Positions are gapless from 1, and their order is the order of commits.';
COMMENT ON COLUMN tidewire.events.data IS
    'A JSON payload, byte for byte as it was appended; NULL where the payload is binary.';
COMMENT ON COLUMN tidewire.events.bytes IS
    'A binary payload, of the media type content_type.';

CREATE INDEX events_category_position ON tidewire.events (category, position);
CREATE INDEX events_type_position ON tidewire.events (type, position);

CREATE TABLE tidewire.requests (
    id          uuid        NOT NULL PRIMARY KEY,
    revision    bigint      NOT NULL,
    position    bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    place       integer     NOT NULL,
    events      integer     NOT NULL,
    stream      text        COLLATE "C" NOT NULL,
    CONSTRAINT requests_place_in_append CHECK (place >= 0 AND place < events)
);

COMMENT ON TABLE tidewire.requests IS
    'The client-made ids of the last days, so that an append that is sent again has its first answer.';
COMMENT ON COLUMN tidewire.requests.place IS
    'The place of the event with this id in its append, from 0.';
COMMENT ON COLUMN tidewire.requests.events IS
    'How many events the append had.';
COMMENT ON COLUMN tidewire.requests.position IS
    'What the append was answered: the position of its last event, as revision is its revision.';

CREATE INDEX requests_recorded_at ON tidewire.requests USING brin (recorded_at);

CREATE TABLE tidewire.epochs (
    ordinal           bigint      NOT NULL PRIMARY KEY CHECK (ordinal >= 1),
    epoch             uuid        NOT NULL UNIQUE,
    first_position    bigint      NOT NULL CHECK (first_position >= 1),
    began_at          timestamptz NOT NULL,
    system_identifier bigint,
    timeline          integer
);

COMMENT ON TABLE tidewire.epochs IS
    'The lives of the log, oldest first. system_identifier and timeline: the server that it then lay on, where that could be told.';
