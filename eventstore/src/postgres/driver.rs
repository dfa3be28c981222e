//! What the driver's errors mean and how it is given JSON, for the crates of this workspace that
//! keep rows beside the log's. Not part of the public interface.

pub use super::{
    fault::{Fault, passes, reason},
    wire::RawJson,
};
