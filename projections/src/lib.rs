//! Projections: read models that follow the log, are right, and are rebuilt beside themselves.
//!
//! A projection is a pure function from a document (or none) and an event to changes of documents,
//! with a name and a version ([`Definition`]). Its documents and how far it has read the log are
//! one transaction of a [`DocumentStore`]; a lease with a fence lets one node at a time write
//! them.

pub mod collection;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod declared;
mod definition;
pub mod documents;
mod feed;
mod feed_bytes;
mod follow;
mod hub;
pub mod kit;
mod lease;
mod log_watch;
mod merge;
mod poll;
mod projection;
pub mod query;
mod rebuild;
mod runner;
mod service;
mod sql;
mod status;
pub mod typed;
mod watched;
mod working;

pub use definition::{Definition, FIELDS_MAX, INDEX_FIELDS_MAX, INDEXES_MAX, Index};
pub use documents::{DocumentStore, MemoryDocuments, StoreError};
#[cfg(feature = "postgres")]
pub use documents::{PostgresDocuments, PostgresDocumentsOptions};
#[cfg(feature = "sqlite")]
pub use documents::{SqliteDocuments, SqliteDocumentsOptions, SqliteOpenError};
pub use feed::{Before, ChangeBatch, Content, DocumentChange, FeedNews};
pub use projection::{
    DOCUMENT_DEPTH_MAX, EVENT_CHANGES_MAX, EVENT_KEYS_MAX, ProjectError, Projection, SqlStatements,
};
pub use runner::{Config, OnPoison, Policy};
pub use service::{Builder, Projections, StartError};
pub use sql::{SqlProjection, SqlStatementError};
pub use status::{Lag, Progress, ProjectionState, ProjectionStats, ProjectionStatus};
pub use watched::{WaitError, Watched};
pub use working::{Documents, WorkingSet};
