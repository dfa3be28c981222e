-- Makes the schema, and the table that records what was applied to it.
-- Binds: none. Lock: the migrations' advisory lock is held. Index: none.
CREATE SCHEMA IF NOT EXISTS tidewire;
CREATE TABLE IF NOT EXISTS tidewire.migrations (
    version    integer     NOT NULL PRIMARY KEY,
    name       text        NOT NULL,
    checksum   bytea       NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
