//! The PostgreSQL store does what every store has to do.

#![cfg(all(feature = "postgres", feature = "conformance"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use tidewire_eventstore::{Limits, conformance::Fixture};

async fn fixture(limits: Limits) -> Fixture {
    let database = support::Database::create().await;
    let mut options = database.options();
    options.limits = limits;
    Fixture::new(support::connect(options).await, database)
}

tidewire_eventstore::conformance_tests!(fixture);
