-- Reads the epochs, oldest first, each with the head of the same snapshot and what was removed.
-- Binds: none. Lock: none. Index: epochs_pkey, events_pkey.
SELECT h.head, e.epoch, e.first_position, e.began_at, e.system_identifier, e.timeline,
       r.batches, r.position AS removed_through
  FROM tidewire.epochs AS e
 CROSS JOIN (SELECT coalesce(max(position), 0) AS head FROM tidewire.events) AS h
 CROSS JOIN tidewire.removals AS r
 ORDER BY e.ordinal
