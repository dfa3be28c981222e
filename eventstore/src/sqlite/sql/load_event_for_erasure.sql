-- What has to be known of an event before it is erased. Runs under the write lock.
-- ?1 position. Index: the table's key, events_by_stream.
SELECT
    stream,
    revision,
    id,
    type,
    content_type IS NULL AND octet_length(data) = 0,
    octet_length(data) + coalesce(octet_length(meta), 0),
    (SELECT max(position) FROM events),
    (SELECT max(last.revision) FROM events AS last WHERE last.stream = event.stream)
FROM events AS event
WHERE position = ?1
