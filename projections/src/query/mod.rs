//! Queries over the documents of a projection: whether one can be answered, and its pages.
//!
//! A query is answered from one key, from a range of an index, or from all keys in their order;
//! what the store cannot look up is decided here, document by document, within a bound for each
//! page ([`SCAN_MAX`]). Nothing here waits for a projection to go on.

mod cursor;
mod error;
mod order;
mod page;
mod plan;

pub use error::QueryError;
pub use order::{Rank, Ranking};
pub use page::{QueryPage, SCAN_MAX, page};
pub use plan::{check, needs_index};
