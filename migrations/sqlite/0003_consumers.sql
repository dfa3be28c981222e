-- Durable consumers: what they are, who holds them, how far they have come, what they parked.

-- Durable named subscriptions. Everything but the count is fixed when one is created.
CREATE TABLE consumers (
    name        TEXT    NOT NULL PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 200),
    sharing     TEXT    NOT NULL CHECK (sharing IN ('exclusive', 'group')),
    target      TEXT    NOT NULL CHECK (target IN ('all', 'category', 'stream')),
    target_name TEXT    CHECK ((target = 'all') = (target_name IS NULL)),
    filter      TEXT,
    created_at  INTEGER NOT NULL,                             -- microseconds since 1970-01-01 UTC
    parked      INTEGER NOT NULL DEFAULT 0 CHECK (parked >= 0) -- rows of consumer_parked
) STRICT, WITHOUT ROWID;

-- The subscriptions that want a consumer, each until it leaves or its lease runs out.
CREATE TABLE consumer_members (
    consumer    TEXT    NOT NULL,
    member      BLOB    NOT NULL CHECK (length(member) = 16),
    node        TEXT    NOT NULL,
    lease_until INTEGER NOT NULL,
    PRIMARY KEY (consumer, member)
) STRICT, WITHOUT ROWID;

-- The progress of a consumer: partition 0 alone where it is exclusive, else 64 of them.
CREATE TABLE consumer_partitions (
    consumer   TEXT    NOT NULL,
    partition  INTEGER NOT NULL CHECK (partition BETWEEN 0 AND 63),
    fence      INTEGER NOT NULL,               -- raised by each claim; what is older is void
    member     BLOB    CHECK (length(member) = 16),
    checkpoint INTEGER NOT NULL CHECK (checkpoint BETWEEN 0 AND 9007199254740991),
    unclean    INTEGER NOT NULL DEFAULT 0,     -- the present or last owner has not let go in order
    attempts   TEXT    NOT NULL DEFAULT '[]',  -- JSON: pairs of a position and its charges
    PRIMARY KEY (consumer, partition)
) STRICT, WITHOUT ROWID;

-- Events whose delivery was given up, until they are delivered again or dropped.
CREATE TABLE consumer_parked (
    consumer  TEXT    NOT NULL,
    position  INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    attempts  INTEGER NOT NULL,
    reason    TEXT    NOT NULL,
    parked_at INTEGER NOT NULL,
    replaying INTEGER NOT NULL DEFAULT 0,
    told      INTEGER,                         -- the fence of the claim that was told to replay it
    PRIMARY KEY (consumer, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX consumer_parked_replaying
    ON consumer_parked (consumer, partition, position) WHERE replaying;
