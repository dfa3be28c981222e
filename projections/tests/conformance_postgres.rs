//! Documents in PostgreSQL do what every store of documents has to do.

#![cfg(all(feature = "postgres", feature = "conformance"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../eventstore/tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use tidewire_projections::{PostgresDocuments, PostgresDocumentsOptions, conformance::Fixture};

async fn fixture() -> Fixture {
    let database = support::Database::create().await;
    let connect = || async {
        let options = PostgresDocumentsOptions::new(&database.url);
        Arc::new(PostgresDocuments::connect(options).await.unwrap())
    };
    let (one, other) = (connect().await, connect().await);
    Fixture::new(one, other, database)
}

tidewire_projections::conformance_tests!(fixture);
