-- Two doors for programs that write events in their own transactions, in any language:
--
--   tidewire.append    into the log at once, strict about the stream's revision; holds the append
--                      lock until the caller's transaction ends
--   tidewire.enqueue   into tidewire.outbox; a server moves it into the log soon after the commit
--
-- Both check their arguments in the caller, so that what they let in can be recorded. They refuse
-- with a SQLSTATE of class TW and the error's stable code as the DETAIL. Both run with the rights
-- of the schema's owner, for members of the role tidewire_writer alone.

-- The outbox ---------------------------------------------------------------------------------

-- Drawn while the caller's transaction is under way. What is drawn after another transaction was
-- seen to commit is higher than all that one drew: so a session must not draw ahead (CACHE 1).
CREATE SEQUENCE tidewire.outbox_seq AS bigint CACHE 1;

CREATE TABLE tidewire.outbox (
    seq         bigint      NOT NULL PRIMARY KEY,
    transaction xid8        NOT NULL,
    enqueued_at timestamptz NOT NULL,
    events      integer     NOT NULL,
    bytes       bigint      NOT NULL,
    stream      text        COLLATE "C" NOT NULL,
    ids         uuid[]      NOT NULL,
    types       text[]      NOT NULL,
    datas       json[]      NOT NULL,
    metas       json[]      NOT NULL,
    CONSTRAINT outbox_events_counted CHECK (
        events > 0 AND cardinality(ids) = events AND cardinality(types) = events
        AND cardinality(datas) = events AND cardinality(metas) = events)
)
-- Rows come and go: dead ones are to be cleared away often.
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
      autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
      autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

CREATE INDEX outbox_transaction ON tidewire.outbox (transaction);

COMMENT ON TABLE tidewire.outbox IS
    'Calls of tidewire.enqueue that were not moved into the log yet, a row each.';
COMMENT ON COLUMN tidewire.outbox.transaction IS
    'The caller''s transaction: by it a mover finds what became visible since it last looked, without reading past the dead rows of all that was moved.';
COMMENT ON COLUMN tidewire.outbox.ids IS
    'The client-made ids of the events, NULL where there is none.';

CREATE TABLE tidewire.outbox_bounds (
    singleton     boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (singleton),
    moved_through bigint  NOT NULL DEFAULT 0,
    calls_max     bigint  NOT NULL DEFAULT 1000000 CHECK (calls_max >= 1)
);

COMMENT ON TABLE tidewire.outbox_bounds IS
    'One row: how many calls the outbox takes. calls_max may be updated by an operator.';
COMMENT ON COLUMN tidewire.outbox_bounds.moved_through IS
    'About how far the outbox was moved: raised while it is in use, by a hundredth of calls_max or more.';

INSERT INTO tidewire.outbox_bounds DEFAULT VALUES;

-- Checks -------------------------------------------------------------------------------------
--
-- Called by the doors alone, under their search_path.

CREATE FUNCTION tidewire.refuse(sqlstate text, code text, message text, hint text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
    IF hint IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = sqlstate, MESSAGE = message, DETAIL = code;
    END IF;
    RAISE EXCEPTION USING ERRCODE = sqlstate, MESSAGE = message, DETAIL = code, HINT = hint;
END
$$;

COMMENT ON FUNCTION tidewire.refuse IS
    'Ends the statement with an error of ours: its stable code is the DETAIL.';

CREATE FUNCTION tidewire.check_name(what text, name text)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
    IF coalesce(name, '') = '' OR (what = 'stream' AND left(name, 1) = '-') THEN
        PERFORM tidewire.refuse('TW020', 'name_empty',
            format('%s: the name, or the category before its first `-`, is empty', what));
    ELSIF octet_length(name) > 200 THEN
        PERFORM tidewire.refuse('TW021', 'name_too_long',
            format('%s: the name has %s bytes; at most 200 are allowed', what,
                   octet_length(name)));
    ELSIF name COLLATE "C" ~ '[\u0001-\u001f\u007f-\u009f]' THEN
        PERFORM tidewire.refuse('TW022', 'name_control_character',
            format('%s: the name contains a control character', what));
    ELSIF left(name, 1) = '$' THEN
        PERFORM tidewire.refuse('TW023', 'name_reserved',
            format('%s: names that begin with `$` are reserved', what));
    END IF;
END
$$;

COMMENT ON FUNCTION tidewire.check_name IS
    'Refuses what is no name: 1 to 200 bytes, no control characters, no $ at its start.';

CREATE FUNCTION tidewire.check_json(what text, value json, bytes_max integer, depth_max integer)
RETURNS integer
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    content  text    := value::text;
    bytes    integer := octet_length(content);
    brackets text;
BEGIN
    IF bytes > bytes_max THEN
        PERFORM tidewire.refuse('TW012', 'too_large',
            format('%s has %s bytes; at most %s are allowed', what, bytes, bytes_max));
    END IF;
    -- It cannot nest deeper than it has opening brackets, and most values have few.
    IF length(content) - length(translate(content, '[{', '')) > depth_max THEN
        -- What is left without strings and all but the brackets. Taking away the innermost pairs
        -- makes it shallower by one.
        brackets := regexp_replace(content, '"(?:[^"\\]|\\.)*"', '', 'g');
        brackets := translate(regexp_replace(brackets, '[^][{}]+', '', 'g'), '{}', '[]');
        FOR depth IN 1..depth_max LOOP
            brackets := replace(brackets, '[]', '');
            EXIT WHEN brackets = '';
        END LOOP;
        IF brackets <> '' THEN
            PERFORM tidewire.refuse('TW013', 'invalid_json',
                format('%s is nested too deeply; at most %s levels are allowed', what, depth_max));
        END IF;
    END IF;
    RETURN bytes;
END
$$;

COMMENT ON FUNCTION tidewire.check_json IS
    'Refuses JSON that is too large or nested too deeply, and returns its bytes.';

CREATE FUNCTION tidewire.read_events(
    events json, OUT ids uuid[], OUT types text[], OUT datas json[], OUT metas json[],
    OUT bytes bigint)
LANGUAGE plpgsql IMMUTABLE
AS $$
#variable_conflict use_variable
DECLARE
    events_max CONSTANT integer := 1000;
    bytes_max  CONSTANT bigint  := 4 * 1024 * 1024;
    data_max   CONSTANT integer := 1024 * 1024;
    meta_max   CONSTANT integer := 64 * 1024;
    depth_max  CONSTANT integer := 64;
    event json;
    field record;
    which text;
    id    uuid;
    type  text;
    data  json;
    meta  json;
    n     integer := 0;
BEGIN
    ids := '{}';
    types := '{}';
    datas := '{}';
    metas := '{}';
    bytes := 0;
    IF events IS NULL OR json_typeof(events) NOT IN ('array', 'object') THEN
        PERFORM tidewire.refuse('TW014', 'invalid_event',
            'events is neither a JSON array of events nor one event',
            'an event is {"type": …, "data": …} and may have "id" and "meta"');
    END IF;
    IF json_typeof(events) = 'array' THEN
        n := json_array_length(events);
        IF n = 0 THEN
            PERFORM tidewire.refuse('TW010', 'no_events', 'at least one event is needed');
        ELSIF n > events_max THEN
            PERFORM tidewire.refuse('TW011', 'too_many_events',
                format('%s events; at most %s are allowed', n, events_max));
        END IF;
        n := 0;
    ELSE
        events := json_build_array(events);
    END IF;

    FOR event IN SELECT value FROM json_array_elements(events) LOOP
        which := format('event %s', n);
        id := NULL;
        type := NULL;
        data := NULL;
        meta := NULL;
        IF json_typeof(event) <> 'object' THEN
            PERFORM tidewire.refuse('TW014', 'invalid_event', which || ' is not an object');
        END IF;
        FOR field IN SELECT key, value FROM json_each(event) LOOP
            CASE field.key
                WHEN 'type' THEN
                    IF json_typeof(field.value) <> 'string' THEN
                        PERFORM tidewire.refuse('TW014', 'invalid_event',
                            which || ': `type` is not a string');
                    END IF;
                    type := field.value #>> '{}';
                WHEN 'data' THEN
                    data := field.value;
                WHEN 'meta' THEN
                    meta := CASE WHEN json_typeof(field.value) <> 'null' THEN field.value END;
                WHEN 'id' THEN
                    IF json_typeof(field.value) <> 'null' THEN
                        IF (field.value #>> '{}') !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                        THEN
                            PERFORM tidewire.refuse('TW014', 'invalid_event',
                                which || ': `id` is not a UUID');
                        END IF;
                        id := field.value #>> '{}';
                    END IF;
                ELSE
                    PERFORM tidewire.refuse('TW014', 'invalid_event',
                        format('%s: there is no field %s', which, to_json(left(field.key, 50))),
                        'an event has "type", "data", and may have "id" and "meta"');
            END CASE;
        END LOOP;
        IF type IS NULL OR data IS NULL THEN
            PERFORM tidewire.refuse('TW014', 'invalid_event',
                format('%s has no `%s`', which, CASE WHEN type IS NULL THEN 'type' ELSE 'data' END));
        END IF;
        PERFORM tidewire.check_name(which || ': type', type);
        bytes := bytes + tidewire.check_json(which || ': payload', data, data_max, depth_max);
        IF meta IS NOT NULL THEN
            bytes := bytes + tidewire.check_json(which || ': meta', meta, meta_max, depth_max);
        END IF;
        IF id = ANY (ids) THEN
            PERFORM tidewire.refuse('TW002', 'id_reused',
                format('event id %s is used twice in one call', id));
        END IF;
        n := n + 1;
        ids := ids || id;
        types := types || type;
        datas := datas || data;
        metas := metas || meta;
    END LOOP;
    IF bytes > bytes_max THEN
        PERFORM tidewire.refuse('TW012', 'too_large',
            format('the events have %s bytes; at most %s are allowed', bytes, bytes_max));
    END IF;
END
$$;

COMMENT ON FUNCTION tidewire.read_events IS
    'Takes apart an event or an array of events, refusing what cannot be recorded. Payloads stay byte for byte as they are.';

CREATE FUNCTION tidewire.event(type text, data json, meta json DEFAULT NULL, id uuid DEFAULT NULL)
RETURNS json
LANGUAGE sql IMMUTABLE
AS $$
    SELECT pg_catalog.json_build_object('type', type, 'data', data, 'meta', meta, 'id', id)
$$;

COMMENT ON FUNCTION tidewire.event IS
    'An event, as tidewire.append and tidewire.enqueue take it; the payload stays byte for byte as it is.';

-- The strict door ----------------------------------------------------------------------------

CREATE FUNCTION tidewire.next_revision(stream text)
RETURNS bigint
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (SELECT coalesce(max(e.revision) + 1, 0) FROM tidewire.events AS e
             WHERE e.stream = next_revision.stream);
END
$$;

COMMENT ON FUNCTION tidewire.next_revision IS
    'The revision of the event that is appended next to a stream.';

CREATE FUNCTION tidewire.append(
    stream text, events json, expected text DEFAULT 'any',
    OUT "position" bigint, OUT revision bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- As for append_group. What has no index then looks so costly that it would be compiled each time:
-- 25 ms a call.
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    idle_max CONSTANT interval := '5 s';
    given       record;
    count       integer;
    answer      record;
    current     bigint;
    head        bigint;
    recorded_at timestamptz;
BEGIN
    PERFORM tidewire.check_name('stream', stream);
    given := tidewire.read_events(events);
    count := cardinality(given.types);
    IF expected IS NULL
       OR (expected NOT IN ('any', 'no_stream', 'exists') AND expected !~ '^[0-9]{1,16}$')
    THEN
        PERFORM tidewire.refuse('TW015', 'invalid_expected',
            'expected is neither ''any'', ''no_stream'', ''exists'' nor a revision');
    END IF;
    -- A snapshot older than the lock would not show what the lock's last holder appended.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        PERFORM tidewire.refuse('TW016', 'wrong_isolation',
            format('tidewire.append needs READ COMMITTED, this transaction is %s',
                   upper(current_setting('transaction_isolation'))),
            'tidewire.enqueue works at any isolation level');
    END IF;

    -- Until the caller commits everybody else waits: a caller that forgot to is not waited for
    -- for long, and what becomes visible has to be durable, whatever the caller's session says.
    IF current_setting('idle_in_transaction_session_timeout')::interval = '0'
       OR current_setting('idle_in_transaction_session_timeout')::interval > idle_max
    THEN
        PERFORM set_config('idle_in_transaction_session_timeout', '5s', true);
    END IF;
    IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM FROM tidewire.head FOR UPDATE;

    -- What was recorded before by these ids has its first answer, whatever is expected now.
    IF EXISTS (SELECT FROM unnest(given.ids) AS n (id) WHERE n.id IS NOT NULL) THEN
        SELECT count(*) FILTER (WHERE n.id IS NOT NULL) AS brought,
               count(r.id) AS found,
               count(r.id) FILTER (WHERE r.stream = stream AND r.events = count
                                     AND r.place = n.place - 1) AS same,
               count(DISTINCT r.position) AS answers,
               min(r.position) AS position,
               min(r.revision) AS revision,
               (array_agg(r.id) FILTER (WHERE r.id IS NOT NULL))[1] AS id
          INTO answer
          FROM unnest(given.ids) WITH ORDINALITY AS n (id, place)
          -- Looked up one by one by the index, however small the table was when this was planned.
          LEFT JOIN LATERAL (SELECT * FROM tidewire.requests AS r WHERE r.id = n.id OFFSET 0) AS r
            ON true;
        IF answer.found > 0 THEN
            IF answer.same < answer.brought OR answer.answers > 1 THEN
                PERFORM tidewire.refuse('TW002', 'id_reused',
                    format('event id %s was used before in another append', answer.id));
            END IF;
            position := answer.position;
            revision := answer.revision;
            RETURN;
        END IF;
    END IF;

    current := (SELECT max(e.revision) FROM tidewire.events AS e WHERE e.stream = stream);
    IF NOT (CASE expected WHEN 'any'       THEN true
                          WHEN 'no_stream' THEN current IS NULL
                          WHEN 'exists'    THEN current IS NOT NULL
                          ELSE coalesce(current = expected::bigint, false)
            END)
    THEN
        PERFORM tidewire.refuse('TW001', 'wrong_expected_revision',
            format('stream %s is at %s, not %s', stream,
                   coalesce('revision ' || current, 'no_stream'), expected));
    END IF;

    head := (SELECT coalesce(max(e.position), 0) FROM tidewire.events AS e);
    position := head + count;
    revision := tidewire.next_revision(stream) + count - 1;
    recorded_at := clock_timestamp();
    INSERT INTO tidewire.events (position, revision, recorded_at, id, stream, type, data, meta)
    SELECT head + n.place, revision - count + n.place, recorded_at,
           coalesce(n.id, gen_random_uuid()), stream, n.type, n.data, n.meta
      FROM unnest(given.ids, given.types, given.datas, given.metas) WITH ORDINALITY
           AS n (id, type, data, meta, place);
    INSERT INTO tidewire.requests (id, revision, position, recorded_at, place, events, stream)
    SELECT n.id, revision, position, recorded_at, n.place - 1, count, stream
      FROM unnest(given.ids) WITH ORDINALITY AS n (id, place)
     WHERE n.id IS NOT NULL;
END
$$;

COMMENT ON FUNCTION tidewire.append(text, json, text) IS
    'Appends to the log in the caller''s transaction and returns position and revision of the last event. Others wait until the transaction ends: call it last.';

CREATE FUNCTION tidewire.append(
    stream text, events json, expected bigint, OUT "position" bigint, OUT revision bigint)
LANGUAGE sql VOLATILE
AS $$
    SELECT a.position, a.revision FROM tidewire.append(stream, events, expected::text) AS a
$$;

COMMENT ON FUNCTION tidewire.append(text, json, bigint) IS
    'The same, with the revision of the stream''s last event as a number.';

-- The outbox door ----------------------------------------------------------------------------

CREATE FUNCTION tidewire.enqueue(stream text, events json)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    given  record;
    bounds record;
    seq    bigint;
BEGIN
    PERFORM tidewire.check_name('stream', stream);
    given := tidewire.read_events(events);
    seq := nextval('tidewire.outbox_seq');
    SELECT b.moved_through, b.calls_max INTO STRICT bounds FROM tidewire.outbox_bounds AS b;
    IF seq - bounds.moved_through > bounds.calls_max THEN
        PERFORM tidewire.refuse('TW030', 'overloaded',
            format('more than %s calls of tidewire.enqueue wait to be moved into the log',
                   bounds.calls_max),
            'is a Tidewire server running on this database?');
    END IF;
    INSERT INTO tidewire.outbox (seq, transaction, enqueued_at, events, bytes, stream, ids, types,
                                 datas, metas)
    VALUES (seq, pg_current_xact_id(), clock_timestamp(), cardinality(given.types), given.bytes,
            stream, given.ids, given.types, given.datas, given.metas);
END
$$;

COMMENT ON FUNCTION tidewire.enqueue IS
    'Leaves events for the log in the caller''s transaction. Nobody waits for anybody; a server moves them into the log soon after the commit.';

-- Moves calls from the outbox into the log, the oldest first.
--
-- All calls that a snapshot sees are moved in the order of seq before any that it does not see:
-- then a call that was made after another's commit was seen comes after it, in one session or
-- across sessions, as the same snapshot sees both and the later one drew the higher seq. A round
-- may take several of these transactions. Movers take turns by the append lock; each may be in a
-- round of its own.
--
--   moved         the snapshot of the mover's last complete round: of what it sees, nothing is left.
--                 NULL: the mover does not know
--   round, after  the snapshot of the round under way, and the last seq that it moved. NULL: a new
--                 one begins
--
-- The answer is what to bring the next time: a complete round's snapshot as `moved`.

CREATE FUNCTION tidewire.move_outbox(
    moved pg_snapshot, INOUT round pg_snapshot, INOUT after bigint,
    events_max integer, bytes_max bigint,
    OUT complete boolean, OUT head bigint, OUT calls integer, OUT events integer)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    seqs        bigint[];
    recorded_at timestamptz;
BEGIN
    PERFORM FROM tidewire.head FOR UPDATE;
    -- Each statement from here on has a snapshot that is newer than the lock.
    IF round IS NULL THEN
        round := pg_current_snapshot();
        after := NULL;
    END IF;
    -- A transaction of the future is one of another server, whose dump was restored here.
    IF moved IS NOT NULL AND after IS NULL THEN
        SELECT array_agg(p.seq) FILTER (WHERE p.fits), coalesce(bool_and(p.fits), true)
          INTO seqs, complete
          FROM (SELECT c.seq,
                       row_number() OVER sofar = 1
                       OR (sum(c.events) OVER sofar <= events_max
                           AND sum(c.bytes) OVER sofar <= bytes_max) AS fits
                  FROM (SELECT n.seq, n.events, n.bytes
                          FROM (SELECT o.seq, o.events, o.bytes, o.transaction
                                  FROM tidewire.outbox AS o
                                 WHERE o.transaction >= pg_snapshot_xmax(moved)
                                 UNION ALL
                                SELECT o.seq, o.events, o.bytes, o.transaction
                                  FROM tidewire.outbox AS o
                                 WHERE o.transaction = ANY (ARRAY(SELECT pg_snapshot_xip(moved))))
                               AS n
                         WHERE pg_visible_in_snapshot(n.transaction, round)
                            OR n.transaction >= pg_snapshot_xmax(pg_current_snapshot())
                         ORDER BY n.seq
                         LIMIT events_max + 1) AS c
                WINDOW sofar AS (ORDER BY c.seq)) AS p;
    ELSE
        SELECT array_agg(p.seq) FILTER (WHERE p.fits), coalesce(bool_and(p.fits), true)
          INTO seqs, complete
          FROM (SELECT c.seq,
                       row_number() OVER sofar = 1
                       OR (sum(c.events) OVER sofar <= events_max
                           AND sum(c.bytes) OVER sofar <= bytes_max) AS fits
                  FROM (SELECT o.seq, o.events, o.bytes
                          FROM tidewire.outbox AS o
                         WHERE o.seq > coalesce(after, 0)
                           AND (pg_visible_in_snapshot(o.transaction, round)
                                OR o.transaction >= pg_snapshot_xmax(pg_current_snapshot()))
                         ORDER BY o.seq
                         LIMIT events_max + 1) AS c
                WINDOW sofar AS (ORDER BY c.seq)) AS p;
    END IF;
    head := (SELECT coalesce(max(e.position), 0) FROM tidewire.events AS e);
    calls := coalesce(cardinality(seqs), 0);
    events := 0;
    IF calls = 0 THEN
        RETURN;
    END IF;
    after := (SELECT max(s) FROM unnest(seqs) AS s);

    IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    recorded_at := clock_timestamp();
    WITH taken AS (
        DELETE FROM tidewire.outbox AS o WHERE o.seq = ANY (seqs)
        RETURNING o.seq, o.events, o.stream, o.ids, o.types, o.datas, o.metas
    ), event AS (
        SELECT t.seq, t.events, t.stream, n.id, n.type, n.data, n.meta, n.place,
               row_number() OVER (PARTITION BY n.id ORDER BY t.seq, n.place) AS copy
          FROM taken AS t
         CROSS JOIN LATERAL unnest(t.ids, t.types, t.datas, t.metas) WITH ORDINALITY
               AS n (id, type, data, meta, place)
    ), fresh AS (
        -- An id that was recorded before, or is here twice, is the same event again. A scalar
        -- subquery is looked up by the index, whatever the planner thinks of EXISTS.
        SELECT e.*,
               row_number() OVER (ORDER BY e.seq, e.place) AS nth,
               row_number() OVER (PARTITION BY e.stream ORDER BY e.seq, e.place) AS nth_of_stream
          FROM event AS e
         WHERE e.id IS NULL
            OR (e.copy = 1
                AND (SELECT r.id FROM tidewire.requests AS r WHERE r.id = e.id) IS NULL)
    ), placed AS (
        SELECT f.*, f.nth + head AS position,
               f.nth_of_stream - 1
               + max(CASE WHEN f.nth_of_stream = 1 THEN tidewire.next_revision(f.stream) END)
                 OVER (PARTITION BY f.stream) AS revision
          FROM fresh AS f
    ), remembered AS (
        INSERT INTO tidewire.requests (id, revision, position, recorded_at, place, events, stream)
        SELECT p.id, p.last_revision, p.last_position, recorded_at, p.place - 1, p.events, p.stream
          FROM (SELECT q.*, max(q.revision) OVER (PARTITION BY q.seq) AS last_revision,
                       max(q.position) OVER (PARTITION BY q.seq) AS last_position
                  FROM placed AS q) AS p
         WHERE p.id IS NOT NULL
    )
    INSERT INTO tidewire.events (position, revision, recorded_at, id, stream, type, data, meta)
    SELECT p.position, p.revision, recorded_at, coalesce(p.id, gen_random_uuid()), p.stream, p.type,
           p.data, p.meta
      FROM placed AS p
     ORDER BY p.position;
    GET DIAGNOSTICS events = ROW_COUNT;
    head := head + events;
END
$$;

COMMENT ON FUNCTION tidewire.move_outbox IS
    'Moves calls from the outbox into the log, the oldest first; for Tidewire servers.';

-- Who may use the doors ----------------------------------------------------------------------

REVOKE ALL ON FUNCTION
    tidewire.refuse(text, text, text, text),
    tidewire.check_name(text, text),
    tidewire.check_json(text, json, integer, integer),
    tidewire.read_events(json),
    tidewire.event(text, json, json, uuid),
    tidewire.next_revision(text),
    tidewire.append(text, json, text),
    tidewire.append(text, json, bigint),
    tidewire.enqueue(text, json),
    tidewire.move_outbox(pg_snapshot, pg_snapshot, bigint, integer, bigint)
FROM PUBLIC;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tidewire_writer') THEN
        BEGIN
            CREATE ROLE tidewire_writer NOLOGIN;
        EXCEPTION
            -- Roles belong to the whole server: another database's migration may have made it.
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE WARNING 'the role tidewire_writer is missing and may not be made by %', current_user
                    USING HINT = 'see docs/sql.md, Rights';
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'tidewire_writer') THEN
        GRANT USAGE ON SCHEMA tidewire TO tidewire_writer;
        GRANT EXECUTE ON FUNCTION
            tidewire.event(text, json, json, uuid),
            tidewire.append(text, json, text),
            tidewire.append(text, json, bigint),
            tidewire.enqueue(text, json)
        TO tidewire_writer;
    END IF;
END
$$;
