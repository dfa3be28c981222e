//! Documents in SQLite do what every store of documents has to do.

#![cfg(all(feature = "sqlite", feature = "conformance"))]

use std::sync::Arc;

use tidewire_eventstore::{EventStore as _, SqliteStore};
use tidewire_projections::{SqliteDocuments, SqliteDocumentsOptions, conformance::Fixture};

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder for the log");
    let path = folder.path().join("log.db");
    let log = SqliteStore::open(&path, tidewire_eventstore::SqliteOptions::serve())
        .await
        .expect("a new log opens");
    log.close().await;
    let open = async || {
        let opened = SqliteDocuments::open(&path, SqliteDocumentsOptions::default()).await;
        Arc::new(opened.expect("the log has room for documents"))
    };
    Fixture::new(open().await, open().await, folder)
}

tidewire_projections::conformance_tests!(fixture);
