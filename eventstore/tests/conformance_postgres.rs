//! The PostgreSQL store does what every store has to do.

#![cfg(all(feature = "postgres", feature = "conformance"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use tidewire_eventstore::conformance::Fixture;

async fn fixture() -> Fixture {
    let database = support::Database::create().await;
    Fixture::new(database.store().await, database)
}

tidewire_eventstore::conformance_tests!(fixture);
