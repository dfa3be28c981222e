//! The SQLite store does what every store has to do.

#![cfg(all(feature = "sqlite", feature = "conformance"))]

use std::sync::Arc;

use tidewire_eventstore::{Limits, SqliteOptions, SqliteStore, conformance::Fixture};

async fn fixture(limits: Limits) -> Fixture {
    let folder = tempfile::tempdir().expect("a folder for the log");
    let mut options = SqliteOptions::serve();
    options.limits = limits;
    let store =
        SqliteStore::open(folder.path().join("log.db"), options).await.expect("a new log opens");
    Fixture::new(Arc::new(store), folder)
}

tidewire_eventstore::conformance_tests!(fixture);
