//! What SQLite's result codes mean here. Decided by the primary code, never by text.

use std::path::PathBuf;

use crate::{
    ReadError,
    writer::{Away, CommitError},
};

/// Why a log's file could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process serves this file.
    #[error("another process serves {}; stop it first, or talk to it", .path.display())]
    Served {
        /// The log's file.
        path: PathBuf,
    },
    /// The file cannot be created, opened or locked.
    #[error("cannot use {}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        reason: String,
    },
    /// A program newer by more than one version of the schema wrote this file.
    #[error(
        "{} has schema version {found}, but this program knows {known}: use a newer program",
        .path.display()
    )]
    NewerSchema {
        /// The log's file.
        path: PathBuf,
        /// The version that the file has.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
}

/// SQLite's primary result codes that mean something here (<https://sqlite.org/rescode.html>).
mod code {
    pub(super) const BUSY: u32 = 5;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const TOO_BIG: u32 = 18;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const MISMATCH: u32 = 20;
    pub(super) const RANGE: u32 = 25;
    pub(super) const NOT_A_DATABASE: u32 = 26;
    pub(super) const ERROR: u32 = 1;
}

/// SQLite's primary result code, if SQLite answered at all.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?.parse::<u32>().ok()?;
    Some(code & 0xff)
}

/// Whether somebody else holds the lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(code::BUSY)
}

/// What an error before COMMIT means for the group: its data is at fault, or the database is.
pub(super) fn commit_error(error: &sqlx::Error) -> CommitError {
    match primary_code(error) {
        Some(code::CONSTRAINT | code::TOO_BIG | code::MISMATCH | code::RANGE | code::ERROR) => {
            CommitError::Refused(error.to_string())
        }
        _ => CommitError::Away(away(error)),
    }
}

/// The database cannot be used for now.
pub(super) fn away(error: &sqlx::Error) -> Away {
    Away(error.to_string())
}

/// What an error means for a reader.
pub(super) fn read_error(error: &sqlx::Error) -> ReadError {
    match primary_code(error) {
        Some(code::CORRUPT | code::NOT_A_DATABASE) => {
            ReadError::Corrupt { reason: error.to_string() }
        }
        Some(code::ERROR | code::RANGE | code::TOO_BIG) => {
            ReadError::Refused { reason: error.to_string() }
        }
        Some(_) => ReadError::Unavailable,
        None => match error {
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_) => ReadError::Corrupt { reason: error.to_string() },
            _ => ReadError::Unavailable,
        },
    }
}
