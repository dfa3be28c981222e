-- Finds how many events of a stream stand at or before a position, which is the revision of the
-- first event after it. Revisions and positions of a stream rise together and revisions have no
-- holes, so that halving finds it in as many steps as the count has binary digits.
-- Binds: $1 stream, $2 position.
-- Lock: none. Index: events_stream_revision.
WITH RECURSIVE search (low, high) AS (
    SELECT 0::bigint,
           coalesce((SELECT max(revision) + 1 FROM tidewire.events WHERE stream = $1::text), 0)
  UNION ALL
    SELECT CASE WHEN probe.position <= $2::bigint THEN half.middle + 1 ELSE half.low END,
           CASE WHEN probe.position <= $2::bigint THEN half.high ELSE half.middle END
      FROM (SELECT low, high, (low + high) / 2 AS middle FROM search WHERE low < high) AS half
     CROSS JOIN LATERAL (
        SELECT position FROM tidewire.events WHERE stream = $1::text AND revision = half.middle)
        AS probe
)
SELECT max(low) FROM search
