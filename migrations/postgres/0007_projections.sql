-- Projections: their documents, how far each has come, and who writes them.
--
-- Locks, always in this order: the row of projections, rows of projection_generations, rows of the
-- other tables. A commit holds the projection's row FOR KEY SHARE: commits of two generations do
-- not wait for each other, nor does the renewal of the lease wait for either. A claim or a release
-- changes fence or owner, which are columns of a unique index, and so waits until the commits under
-- the old fence have ended; a commit that comes after it finds the new ones.

-- Numbers are drawn once. What was drawn before a crash and lost with it was seen by nobody.
CREATE SEQUENCE tidewire.projection_generation AS bigint CACHE 1;
CREATE SEQUENCE tidewire.projection_fence AS bigint CACHE 1;

CREATE TABLE tidewire.projection_generations (
    generation   bigint      NOT NULL PRIMARY KEY,
    projection   text        COLLATE "C" NOT NULL,
    version      bigint      NOT NULL,
    checkpoint   bigint      NOT NULL DEFAULT 0,
    commits      bigint      NOT NULL DEFAULT 0,
    changes_from bigint      NOT NULL DEFAULT 0,
    parked       bigint      NOT NULL DEFAULT 0,
    began_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    stopped_at   bigint,
    stopped      text,
    swept        boolean     NOT NULL DEFAULT false,
    CONSTRAINT projection_generations_numbered
        CHECK (generation BETWEEN 1 AND 9007199254740991),
    CONSTRAINT projection_generations_version CHECK (version BETWEEN 0 AND 4294967295),
    CONSTRAINT projection_generations_checkpoint
        CHECK (checkpoint BETWEEN 0 AND 9007199254740991),
    CONSTRAINT projection_generations_changes CHECK (changes_from BETWEEN 0 AND checkpoint),
    CONSTRAINT projection_generations_parked CHECK (parked >= 0),
    CONSTRAINT projection_generations_stopped CHECK (stopped IS NOT NULL OR stopped_at IS NULL)
)
-- A row is updated by each commit: there is room for that beside it, and dead ones go soon.
WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE INDEX projection_generations_projection
    ON tidewire.projection_generations (projection, generation);

COMMENT ON TABLE tidewire.projection_generations IS
    'Fillings of projections from the log. One that no projection has as its active or building is retired, and is deleted in steps.';
COMMENT ON COLUMN tidewire.projection_generations.commits IS
    'How often the checkpoint was written: by it an owner learns whether a commit without an answer took place.';
COMMENT ON COLUMN tidewire.projection_generations.changes_from IS
    'The last position of a tombstone that was swept: who knows the documents as of before it has to read them anew.';
COMMENT ON COLUMN tidewire.projection_generations.stopped IS
    'Why the generation goes no further; stopped_at is the position of the event that it is about.';
COMMENT ON COLUMN tidewire.projection_generations.swept IS
    'Documents may be missing: nobody reads the generation any more.';

CREATE TABLE tidewire.projections (
    name        text        COLLATE "C" NOT NULL PRIMARY KEY,
    active      bigint      NOT NULL,
    building    bigint,
    fence       bigint      NOT NULL DEFAULT 0,
    owner       uuid,
    node        text,
    lease_until timestamptz,
    wish        text        COLLATE "C",
    CONSTRAINT projections_fence UNIQUE (name, fence, owner),
    CONSTRAINT projections_active FOREIGN KEY (active)
        REFERENCES tidewire.projection_generations DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT projections_building FOREIGN KEY (building)
        REFERENCES tidewire.projection_generations DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT projections_generations_differ CHECK (building <> active),
    CONSTRAINT projections_named CHECK (octet_length(name) BETWEEN 1 AND 200),
    CONSTRAINT projections_owned CHECK (
        (owner IS NULL) = (node IS NULL) AND (owner IS NULL) = (lease_until IS NULL)),
    CONSTRAINT projections_wish CHECK (wish IN ('rebuild', 'cancel', 'resume', 'skip'))
)
WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

COMMENT ON TABLE tidewire.projections IS
    'Read models: which generation is read and which is built, and the node that writes them.';
COMMENT ON COLUMN tidewire.projections.fence IS
    'Raised by each claim, to a number that no claim had before; what comes with an older one is void.';
COMMENT ON COLUMN tidewire.projections.wish IS
    'What the owner was asked to do and has not done.';

CREATE TABLE tidewire.documents (
    generation bigint NOT NULL,
    key        text   COLLATE "C" NOT NULL,
    position   bigint NOT NULL,
    data       json,
    CONSTRAINT documents_pkey PRIMARY KEY (generation, key),
    CONSTRAINT documents_keyed CHECK (octet_length(key) BETWEEN 1 AND 200),
    CONSTRAINT documents_position CHECK (position BETWEEN 1 AND 9007199254740991)
)
-- A new version of a document finds room in its page. It has entries of its own in the indexes,
-- because its position changes, so that the dead are to be cleared away before they are many.
WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05,
      autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.1);

COMMENT ON TABLE tidewire.documents IS
    'The documents of projections. Read those of the generation that tidewire.projections has as active.';
COMMENT ON COLUMN tidewire.documents.position IS
    'The event that changed the document last: in its order this table is the log of changes.';
COMMENT ON COLUMN tidewire.documents.data IS
    'An object; NULL where the document was deleted, until that has been swept.';

CREATE INDEX documents_position ON tidewire.documents (generation, position);
CREATE INDEX documents_deleted ON tidewire.documents (generation, position) WHERE data IS NULL;

CREATE TABLE tidewire.document_index (
    generation bigint   NOT NULL,
    number     smallint NOT NULL,
    entry      bytea    NOT NULL,
    key        text     COLLATE "C" NOT NULL,
    CONSTRAINT document_index_pkey PRIMARY KEY (generation, number, entry, key)
)
WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2,
      autovacuum_analyze_scale_factor = 0.1);

COMMENT ON TABLE tidewire.document_index IS
    'Where each document stands in each index of its projection. The bytes of an entry are in the order of the values that it stands for.';

CREATE TABLE tidewire.projection_parked (
    generation bigint      NOT NULL,
    position   bigint      NOT NULL,
    reason     text        NOT NULL,
    parked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT projection_parked_pkey PRIMARY KEY (generation, position)
);

COMMENT ON TABLE tidewire.projection_parked IS
    'Events that a projection could not take and went past.';
