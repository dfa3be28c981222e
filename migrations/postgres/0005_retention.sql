-- Removing and erasing events.
--
-- A removed event leaves a row with its position, its id and its time, so that positions keep having
-- no holes. Its stream and its type are '$removed', its revision is its position, and it carries a
-- binary payload without bytes of the media type '', which nobody can append. An erased event keeps
-- everything but its payload and metadata; it carries the same empty payload. So the constraints on
-- events hold as they are, and a program that does not know of removals reads on.

CREATE TABLE tidewire.removed_streams (
    stream   text   COLLATE "C" NOT NULL PRIMARY KEY,
    revision bigint NOT NULL CHECK (revision >= 0),
    position bigint NOT NULL CHECK (position >= 1)
);

COMMENT ON TABLE tidewire.removed_streams IS
    'How far each stream was removed: always its beginning. A stream goes on from here where it has no events, so these rows stay.';

CREATE TABLE tidewire.removed_categories (
    category text   COLLATE "C" NOT NULL PRIMARY KEY,
    position bigint NOT NULL CHECK (position >= 1)
);

COMMENT ON TABLE tidewire.removed_categories IS
    'The last removed event of each category that has any.';

CREATE TABLE tidewire.removals (
    singleton boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (singleton),
    batches   bigint  NOT NULL DEFAULT 0,
    position  bigint  NOT NULL DEFAULT 0
);

COMMENT ON TABLE tidewire.removals IS
    'One row: how often events were removed, and the highest position that was.';

INSERT INTO tidewire.removals DEFAULT VALUES;

COMMENT ON COLUMN tidewire.events.content_type IS
    'The media type of a binary payload; empty where the payload was erased, or the event removed.';

-- Removes the oldest events of a stream (before_revision) or of a category (up_to, and recorded
-- before a moment: it stops at the first event that was not), at most so many. Tells how many they
-- were, the bytes of their payloads and metadata, and the last position (NULL: none).
--
-- It holds the append lock, so that no append rests on what a stream was before. Where a stream has
-- no events left, it raises the fence: what writers remember of that stream is not true any more.

CREATE FUNCTION tidewire.remove_events(
    of_stream       text,
    before_revision bigint,
    of_category     text,
    up_to           bigint,
    recorded_before timestamptz,
    rows_max        integer,
    OUT events        bigint,
    OUT bytes         bigint,
    OUT last_position bigint)
LANGUAGE plpgsql
VOLATILE
-- As in append_group: a plan made while the tables were small must not stay.
SET enable_seqscan = off
AS $$
#variable_conflict use_variable
DECLARE
    doomed bigint[];
BEGIN
    PERFORM FROM tidewire.head FOR UPDATE;

    IF of_stream IS NOT NULL THEN
        doomed := ARRAY(
            SELECT e.position
              FROM tidewire.events AS e
             WHERE e.stream = of_stream AND e.revision < before_revision
             ORDER BY e.revision
             LIMIT rows_max);
    ELSE
        doomed := ARRAY(
            SELECT c.position
              FROM (SELECT o.position,
                           bool_and(recorded_before IS NULL OR o.recorded_at < recorded_before)
                               OVER (ORDER BY o.position) AS goes
                      FROM (SELECT e.position, e.recorded_at
                              FROM tidewire.events AS e
                             WHERE e.category = of_category AND e.position <= up_to
                             ORDER BY e.position
                             LIMIT rows_max) AS o) AS c
             WHERE c.goes);
    END IF;

    SELECT count(*), coalesce(sum(coalesce(octet_length(e.data::text), octet_length(e.bytes), 0)
                                  + coalesce(octet_length(e.meta::text), 0)), 0), max(e.position)
      INTO events, bytes, last_position
      FROM tidewire.events AS e
     WHERE e.position = ANY (doomed);
    IF events = 0 THEN
        RETURN;
    END IF;

    IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    INSERT INTO tidewire.removed_streams AS r (stream, revision, position)
    SELECT e.stream, max(e.revision), max(e.position)
      FROM tidewire.events AS e
     WHERE e.position = ANY (doomed)
     GROUP BY e.stream
        ON CONFLICT ON CONSTRAINT removed_streams_pkey DO UPDATE
       SET revision = excluded.revision, position = excluded.position;

    INSERT INTO tidewire.removed_categories AS r (category, position)
    SELECT e.category, max(e.position)
      FROM tidewire.events AS e
     WHERE e.position = ANY (doomed)
     GROUP BY e.category
        ON CONFLICT ON CONSTRAINT removed_categories_pkey DO UPDATE
       SET position = greatest(r.position, excluded.position);

    IF EXISTS (
        SELECT FROM tidewire.events AS e
         WHERE e.position = ANY (doomed)
           AND NOT EXISTS (SELECT FROM tidewire.events AS l
                            WHERE l.stream = e.stream AND l.revision = e.revision + 1))
    THEN
        UPDATE tidewire.head AS h SET fence = h.fence + 1;
    END IF;

    UPDATE tidewire.events AS e
       SET stream = '$removed', revision = e.position, type = '$removed', data = NULL,
           content_type = '', bytes = '', meta = NULL
     WHERE e.position = ANY (doomed);

    UPDATE tidewire.removals AS r
       SET batches = r.batches + 1, position = greatest(r.position, last_position);
END
$$;

-- Erases what the event at a position carries, and appends an event of type '$erased' to its stream,
-- which says so. Tells where that was appended, and what became of it:
--
--   erased    it was
--   gone      it was erased before, or removed
--   reserved  it is one of Tidewire's own
--   unknown   there is none

CREATE FUNCTION tidewire.erase_event(
    at_position bigint,
    notice_id   uuid,
    noticed_at  timestamptz,
    OUT outcome         text,
    OUT bytes           bigint,
    OUT notice_revision bigint,
    OUT notice_position bigint)
LANGUAGE plpgsql
VOLATILE
SET enable_seqscan = off
AS $$
#variable_conflict use_variable
DECLARE
    event tidewire.events;
BEGIN
    PERFORM FROM tidewire.head FOR UPDATE;
    SELECT * INTO event FROM tidewire.events AS e WHERE e.position = at_position;
    IF NOT FOUND THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    IF event.content_type = '' THEN
        outcome := 'gone';
        RETURN;
    END IF;
    IF left(event.type, 1) = '$' THEN
        outcome := 'reserved';
        RETURN;
    END IF;
    outcome := 'erased';
    bytes := coalesce(octet_length(event.data::text), octet_length(event.bytes), 0)
             + coalesce(octet_length(event.meta::text), 0);
    notice_revision := (SELECT max(e.revision) + 1 FROM tidewire.events AS e
                         WHERE e.stream = event.stream);
    notice_position := (SELECT max(e.position) + 1 FROM tidewire.events AS e);

    IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    UPDATE tidewire.events AS e
       SET data = NULL, content_type = '', bytes = '', meta = NULL
     WHERE e.position = at_position;

    INSERT INTO tidewire.events (position, revision, recorded_at, id, stream, type, data)
    VALUES (notice_position, notice_revision, noticed_at, notice_id, event.stream, '$erased',
            format('{"position":%s,"revision":%s,"id":"%s"}',
                   at_position, event.revision, event.id)::json);
END
$$;

-- As before; and a stream whose events were removed is not new either.

CREATE OR REPLACE FUNCTION tidewire.append_group(
    expected_head     bigint,
    expected_fence    bigint,
    recorded_at       timestamptz,
    new_streams       text[],
    revisions         bigint[],
    ids               uuid[],
    streams           text[],
    types             text[],
    datas             json[],
    content_types     text[],
    binaries          bytea[],
    metas             json[],
    request_ids       uuid[],
    request_streams   text[],
    request_places    integer[],
    request_events    integer[],
    request_revisions bigint[],
    request_positions bigint[])
RETURNS text
LANGUAGE plpgsql
VOLATILE
-- A session keeps the plans of a function. One made while the tables were small must not go on
-- reading all of them when they are large.
SET enable_seqscan = off
AS $$
#variable_conflict use_variable
DECLARE
    fence bigint;
BEGIN
    SELECT h.fence INTO STRICT fence FROM tidewire.head AS h FOR UPDATE;
    IF fence <> expected_fence
       OR expected_head <> (SELECT coalesce(max(e.position), 0) FROM tidewire.events AS e)
    THEN
        RETURN 'moved';
    END IF;

    IF cardinality(new_streams) > 0 AND EXISTS (
        SELECT FROM unnest(new_streams) AS n (stream)
         CROSS JOIN LATERAL (SELECT FROM tidewire.events AS e
                              WHERE e.stream = n.stream AND e.revision = 0 OFFSET 0) AS e)
       OR cardinality(new_streams) > 0 AND EXISTS (
        SELECT FROM unnest(new_streams) AS n (stream)
         CROSS JOIN LATERAL (SELECT FROM tidewire.removed_streams AS r
                              WHERE r.stream = n.stream OFFSET 0) AS r)
    THEN
        RETURN 'unforeseen';
    END IF;

    IF cardinality(request_ids) > 0 THEN
        IF EXISTS (SELECT FROM tidewire.requests AS r WHERE r.id = ANY (request_ids)) THEN
            RETURN 'unforeseen';
        END IF;
        INSERT INTO tidewire.requests (id, revision, position, recorded_at, place, events, stream)
        SELECT n.id, n.revision, n.position, recorded_at, n.place, n.events, n.stream
          FROM unnest(request_ids, request_revisions, request_positions, request_places,
                      request_events, request_streams)
               AS n (id, revision, position, place, events, stream);
    END IF;

    -- What is visible has to be durable, whatever the session's default says.
    IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    INSERT INTO tidewire.events (position, revision, recorded_at, id, stream, type, data,
                                 content_type, bytes, meta)
    SELECT expected_head + n.ordinality, n.revision, recorded_at, n.id, n.stream, n.type, n.data,
           n.content_type, n.bytes, n.meta
      FROM unnest(revisions, ids, streams, types, datas, content_types, binaries, metas)
           WITH ORDINALITY
           AS n (revision, id, stream, type, data, content_type, bytes, meta, ordinality);
    RETURN 'appended';
END
$$;

-- As before; and a stream whose events were all removed goes on where they ended.

CREATE OR REPLACE FUNCTION tidewire.next_revision(stream text)
RETURNS bigint
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN coalesce(
        (SELECT max(e.revision) + 1 FROM tidewire.events AS e
          WHERE e.stream = next_revision.stream),
        (SELECT r.revision + 1 FROM tidewire.removed_streams AS r
          WHERE r.stream = next_revision.stream),
        0);
END
$$;
