//! Queries: which documents of a projection somebody asks for, once or from now on.
//!
//! A query names a projection and selects by key or by a [`Condition`] over the documents' fields;
//! a [`Window`] orders what is selected and keeps the first so many.

mod condition;
mod field;
mod json;
mod order;
mod patch;
mod sort_key;

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition, ProjectionName};

pub use condition::Condition;
pub use field::FieldPath;
pub use json::WrittenQuery;
pub use order::{Order, OrderDirection};
pub use patch::{difference, merge};
pub use sort_key::SortKey;

/// The most documents of a live window.
pub const WINDOW_MAX: u32 = 1000;

/// Which documents. Queries that are written alike are equal, and can share their frames.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query {
    /// The projection.
    pub projection: ProjectionName,
    /// Only the document of this key.
    pub key: Option<DocumentKey>,
    /// Only documents that meet this.
    pub condition: Option<Arc<Condition>>,
    /// Only the first so many, in an order; all of them, in no order, if none.
    pub window: Option<Window>,
}

impl Query {
    /// Every document of `projection`.
    pub fn all(projection: ProjectionName) -> Self {
        Self { projection, key: None, condition: None, window: None }
    }
}

/// The first so many documents of an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    /// The order; documents that are equal in it stand in ascending order of their keys, whichever
    /// way it goes.
    pub order: Order,
    /// How many, at most [`WINDOW_MAX`] of them.
    pub limit: NonZeroU32,
}

/// A document as it is sent: its key, and its content as JSON text, always an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Names it.
    pub key: DocumentKey,
    /// JSON text of an object.
    pub data: Bytes,
}

/// What has become of one document of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is this now, whether it was there before or not.
    Put(Document),
    /// It was there before, and this JSON merge patch (RFC 7396) makes it what it is now.
    Patch {
        /// Names it.
        key: DocumentKey,
        /// JSON text of the patch.
        patch: Bytes,
    },
    /// It is no longer among the query's documents, if it ever was.
    Delete {
        /// Names it.
        key: DocumentKey,
    },
}

impl Change {
    /// The key of the document.
    pub fn key(&self) -> &DocumentKey {
        match self {
            Self::Put(document) => &document.key,
            Self::Patch { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// What a reader of a query remembers of it: changes after this are all that it misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reached {
    /// The generation of what it holds.
    pub generation: Generation,
    /// Through where.
    pub position: GlobalPosition,
}
