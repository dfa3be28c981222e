//! What SQLite's result codes mean for documents. Decided by the primary code, never by text.

use std::path::PathBuf;

use crate::documents::StoreError;

/// Why the documents in a log's file could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot keep documents in {}: {reason}", .path.display())]
pub struct SqliteOpenError {
    /// The log's file.
    pub path: PathBuf,
    /// What the system or SQLite said.
    pub reason: String,
}

/// Why a statement about documents did not do what it was to do.
#[derive(Debug)]
pub(super) enum Failure {
    Database(sqlx::Error),
    Refused(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => store_error(&error),
            Failure::Refused(error) => error,
        }
    }
}

/// SQLite's primary result codes that mean something here (<https://sqlite.org/rescode.html>).
mod code {
    pub(super) const ERROR: u32 = 1;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const TOO_BIG: u32 = 18;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const MISMATCH: u32 = 20;
    pub(super) const RANGE: u32 = 25;
    pub(super) const NOT_A_DATABASE: u32 = 26;
}

/// What an error of the database means: its data is at fault, the statement's is, or neither and
/// it may work later, as where there is no room or another process holds the lock.
fn store_error(error: &sqlx::Error) -> StoreError {
    let reason = || error.to_string();
    if let Some(database) = error.as_database_error() {
        let code = database.code().and_then(|code| code.parse::<u32>().ok());
        return match code.map(|code| code & 0xff) {
            Some(code::CORRUPT | code::NOT_A_DATABASE) => StoreError::Corrupt { reason: reason() },
            Some(code::ERROR | code::TOO_BIG | code::CONSTRAINT | code::MISMATCH | code::RANGE) => {
                StoreError::Refused { reason: reason() }
            }
            _ => {
                tracing::debug!(%error, "the documents' database does not play along");
                StoreError::Unavailable
            }
        };
    }
    match error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::RowNotFound => StoreError::Corrupt { reason: reason() },
        _ => StoreError::Unavailable,
    }
}
