-- Durable consumers: what they are, who holds them, how far they have come, what they parked.
--
-- Locks, always in this order: rows of consumers by name, rows of consumer_partitions by consumer
-- and partition, rows of consumer_parked. Rows of consumer_members are locked by their own node,
-- or passed over.

CREATE TABLE tidewire.consumers (
    name        text        COLLATE "C" NOT NULL PRIMARY KEY,
    sharing     text        COLLATE "C" NOT NULL,
    target      text        COLLATE "C" NOT NULL,
    target_name text        COLLATE "C",
    filter      text        COLLATE "C",
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    parked      bigint      NOT NULL DEFAULT 0,
    CONSTRAINT consumers_named CHECK (octet_length(name) BETWEEN 1 AND 200),
    CONSTRAINT consumers_shared CHECK (sharing IN ('exclusive', 'group')),
    CONSTRAINT consumers_target CHECK (
        CASE target
            WHEN 'all' THEN target_name IS NULL
            WHEN 'category' THEN target_name IS NOT NULL
            WHEN 'stream' THEN target_name IS NOT NULL
            ELSE false
        END),
    CONSTRAINT consumers_parked_counted CHECK (parked >= 0)
);

COMMENT ON TABLE tidewire.consumers IS
    'Durable named subscriptions. Everything but the count is fixed when one is created.';
COMMENT ON COLUMN tidewire.consumers.parked IS
    'How many rows of consumer_parked it has.';

CREATE TABLE tidewire.consumer_members (
    consumer    text        COLLATE "C" NOT NULL REFERENCES tidewire.consumers ON DELETE CASCADE,
    member      uuid        NOT NULL,
    node        text        NOT NULL,
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (consumer, member)
) WITH (fillfactor = 70);

COMMENT ON TABLE tidewire.consumer_members IS
    'The subscriptions that want a consumer, each until it leaves or its lease runs out.';

CREATE TABLE tidewire.consumer_partitions (
    consumer   text     COLLATE "C" NOT NULL REFERENCES tidewire.consumers ON DELETE CASCADE,
    partition  smallint NOT NULL,
    fence      bigint   NOT NULL,
    member     uuid,
    checkpoint bigint   NOT NULL,
    unclean    boolean  NOT NULL DEFAULT false,
    attempts   text     COLLATE "C" NOT NULL DEFAULT '[]',
    PRIMARY KEY (consumer, partition),
    CONSTRAINT consumer_partitions_numbered CHECK (partition BETWEEN 0 AND 63),
    CONSTRAINT consumer_partitions_checkpoint_exact
        CHECK (checkpoint BETWEEN 0 AND 9007199254740991)
) WITH (fillfactor = 70);

COMMENT ON TABLE tidewire.consumer_partitions IS
    'The progress of a consumer: partition 0 alone where it is exclusive, else 64 of them.';
COMMENT ON COLUMN tidewire.consumer_partitions.fence IS
    'Raised by each claim; what comes with an older one is void.';
COMMENT ON COLUMN tidewire.consumer_partitions.unclean IS
    'Whether the present or last owner has not let go of it in order.';
COMMENT ON COLUMN tidewire.consumer_partitions.attempts IS
    'JSON: pairs of a position and how often its unsettled event was charged.';

CREATE TABLE tidewire.consumer_parked (
    consumer  text        COLLATE "C" NOT NULL REFERENCES tidewire.consumers ON DELETE CASCADE,
    position  bigint      NOT NULL,
    partition smallint    NOT NULL,
    attempts  bigint      NOT NULL,
    reason    text        NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    replaying boolean     NOT NULL DEFAULT false,
    told      bigint,
    PRIMARY KEY (consumer, position)
);

COMMENT ON TABLE tidewire.consumer_parked IS
    'Events whose delivery was given up, until they are delivered again or dropped.';
COMMENT ON COLUMN tidewire.consumer_parked.told IS
    'The fence of the claim that was told to deliver the event again.';

CREATE INDEX consumer_parked_replaying
    ON tidewire.consumer_parked (consumer, partition, position) WHERE replaying;
