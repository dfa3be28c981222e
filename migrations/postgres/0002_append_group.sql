-- Appends a group in one round trip, if the log is still as its writer knows it.
--
-- A writer plans a group on the head, the fence and the stream revisions that it remembers. This
-- function takes the append lock, looks whether they still hold, and inserts the rows or nothing:
--
--   appended    the rows are inserted, with the positions after expected_head
--   moved       somebody else appended, or raised the fence; nothing is inserted
--   unforeseen  a stream that was taken for new has events, or an id that was taken for new was
--               recorded before; nothing is inserted
--
-- It is VOLATILE and runs at READ COMMITTED, so that each statement in it has a snapshot of its
-- own: the head is read in one begun after the lock was held.

CREATE FUNCTION tidewire.append_group(
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
