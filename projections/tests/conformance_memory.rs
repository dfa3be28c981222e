//! Documents in memory do what every store of documents has to do.

#![cfg(feature = "conformance")]

use std::sync::Arc;

use tidewire_projections::{MemoryDocuments, conformance::Fixture};

async fn fixture() -> Fixture {
    let documents = MemoryDocuments::new();
    Fixture::new(Arc::new(documents.clone()), Arc::new(documents), ())
}

tidewire_projections::conformance_tests!(fixture);
