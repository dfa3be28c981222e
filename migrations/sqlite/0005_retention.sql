-- Removing and erasing events.
--
-- A removed event leaves a row with its position, its id and its time, so that positions keep having
-- no holes. Its stream and its type are `$removed`, its revision is its position, its payload is
-- empty text. An erased event keeps everything but its payload and metadata; its payload is empty
-- text, too, which no JSON is.

-- How far each stream was removed. What was removed of a stream is always its beginning. A stream
-- goes on from here where it has no events, so these rows stay.
CREATE TABLE removed_streams (
    stream   TEXT    NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL CHECK (revision >= 0),
    position INTEGER NOT NULL CHECK (position >= 1)
) STRICT, WITHOUT ROWID;

-- The last removed event of each category that has any.
CREATE TABLE removed_categories (
    category TEXT    NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL CHECK (position >= 1)
) STRICT, WITHOUT ROWID;

-- One row: how often events were removed, and the last position that was.
CREATE TABLE removals (
    singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
    batches   INTEGER NOT NULL,
    position  INTEGER NOT NULL
) STRICT;

INSERT INTO removals (singleton, batches, position) VALUES (1, 0, 0);

-- A stream goes on after its last event, removed or not.
DROP TRIGGER events_have_no_holes;

CREATE TRIGGER events_have_no_holes BEFORE INSERT ON events
WHEN NEW.position <> (SELECT coalesce(max(position), 0) + 1 FROM events)
    OR NEW.revision <> 1 + coalesce(
        (SELECT max(revision) FROM events WHERE stream = NEW.stream),
        (SELECT revision FROM removed_streams WHERE stream = NEW.stream),
        -1
    )
BEGIN
    SELECT raise(ABORT, 'the position or the revision leaves a hole');
END;
