//! The memory store does what every store has to do.

#![cfg(all(feature = "store", feature = "conformance"))]

use std::sync::Arc;

use tidewire_eventstore::{Limits, MemoryStore, conformance::Fixture};

async fn fixture(limits: Limits) -> Fixture {
    Fixture::new(Arc::new(MemoryStore::with_limits(limits)), ())
}

tidewire_eventstore::conformance_tests!(fixture);
