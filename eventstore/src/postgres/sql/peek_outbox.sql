-- Looks whether calls of tidewire.enqueue wait that a snapshot did not see, without the append
-- lock; with a snapshot for the next look and the last seq that was drawn.
-- Binds: $1 a snapshot of which nothing is left in the outbox; NULL: there is none.
-- Lock: none. Index: outbox_transaction.
SELECT pg_current_snapshot()::text AS snapshot,
       CASE WHEN $1::text IS NULL
            THEN EXISTS (SELECT FROM tidewire.outbox)
            ELSE EXISTS (SELECT FROM tidewire.outbox
                          WHERE transaction >= pg_snapshot_xmax($1::text::pg_snapshot))
                 OR EXISTS (SELECT FROM tidewire.outbox
                             WHERE transaction = ANY (ARRAY(
                                   SELECT pg_snapshot_xip($1::text::pg_snapshot))))
       END AS waiting,
       (SELECT last_value FROM tidewire.outbox_seq) AS drawn
