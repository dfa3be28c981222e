-- Finds the revision of the first event of a stream that stands after a position: among those that
-- were not removed, the one after the last at or before it. Revisions and positions of a stream rise
-- together, and the revisions after the removed ones have no holes, so that halving finds it in as
-- many steps as their number has binary digits.
-- Binds: $1 stream, $2 position.
-- Lock: none. Index: events_stream_revision, removed_streams_pkey.
WITH RECURSIVE removed (next) AS (
    SELECT coalesce((SELECT revision + 1 FROM tidewire.removed_streams WHERE stream = $1::text), 0)
), search (low, high) AS (
    SELECT next,
           coalesce((SELECT max(revision) + 1 FROM tidewire.events WHERE stream = $1::text), next)
      FROM removed
  UNION ALL
    SELECT CASE WHEN probe.position <= $2::bigint THEN half.middle + 1 ELSE half.low END,
           CASE WHEN probe.position <= $2::bigint THEN half.high ELSE half.middle END
      FROM (SELECT low, high, (low + high) / 2 AS middle FROM search WHERE low < high) AS half
     CROSS JOIN LATERAL (
        SELECT position FROM tidewire.events WHERE stream = $1::text AND revision = half.middle)
        AS probe
)
SELECT max(low) FROM search
