//! [`QueryError`]: why a query is not answered.

use serde_json::{Value, json};
use tidewire_protocol::{ErrorCode, query::FieldPath};

use crate::StoreError;

/// Why a query is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The query names a field that the projection does not declare.
    #[error("the projection has no field {field}")]
    UnknownField {
        /// The field.
        field: FieldPath,
        /// Those that there are.
        known: Vec<FieldPath>,
    },
    /// No index has the documents in this order.
    #[error("no index of the projection has these documents in the order of {by}")]
    UnindexedOrder {
        /// What they were to be ordered by.
        by: FieldPath,
    },
    /// What was given as a cursor is none of this query.
    #[error("the cursor is not one of this query")]
    InvalidCursor,
    /// The cursor is of documents that were replaced since: the query has to begin anew.
    #[error("the documents were rebuilt since the cursor was given")]
    StaleCursor,
    /// The documents are of another version of the projection, whose indexes are not this one's.
    #[error("the projection has to be rebuilt before its documents can be found like this")]
    Outdated,
    /// The documents cannot be read.
    #[error("the documents cannot be read: {0}")]
    Store(#[from] StoreError),
}

impl QueryError {
    /// The code that clients are told.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownField { .. } => ErrorCode::UnknownField,
            Self::UnindexedOrder { .. } => ErrorCode::UnindexedOrder,
            Self::InvalidCursor => ErrorCode::InvalidCursor,
            // The generation was swept while it was read.
            Self::StaleCursor | Self::Store(StoreError::Unknown) => ErrorCode::StaleCursor,
            Self::Outdated | Self::Store(_) => ErrorCode::ProjectionUnavailable,
        }
    }

    /// What a program can learn from the error, besides its code.
    pub fn details(&self) -> Option<Value> {
        match self {
            Self::UnknownField { field, known } => {
                let known: Vec<_> = known.iter().map(FieldPath::as_str).collect();
                Some(json!({ "field": field.as_str(), "known": known }))
            }
            Self::UnindexedOrder { by } => Some(json!({ "field": by.as_str() })),
            _ => None,
        }
    }
}
