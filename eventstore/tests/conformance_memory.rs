//! The memory store does what every store has to do.

#![cfg(all(feature = "store", feature = "conformance"))]

use std::sync::Arc;

use tidewire_eventstore::{MemoryStore, conformance::Fixture};

async fn fixture() -> Fixture {
    Fixture::new(Arc::new(MemoryStore::new()), ())
}

tidewire_eventstore::conformance_tests!(fixture);
