//! What can go wrong with an append and with a read: one enum each, with a stable code.

use crate::{CommandKey, CommandName, EventId, ExpectedRevision, NameError, Revision, StreamName};

/// Why an append was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The stream is not at the revision that the append demanded.
    #[error("stream {stream} is at {}, not {expected}", DisplayRevision(*.actual))]
    WrongExpectedRevision {
        /// The stream.
        stream: StreamName,
        /// What was demanded.
        expected: ExpectedRevision,
        /// The stream's last revision; none where it has no events.
        actual: Option<Revision>,
    },
    /// An id of this append was recorded before as part of another append.
    #[error("event id {id} was used before in another append")]
    IdReused {
        /// The id.
        id: EventId,
    },
    /// The key of this command was recorded before for the same command with other data.
    #[error("key {key} was used before for {name} with other data")]
    KeyReused {
        /// The command's name.
        name: CommandName,
        /// The key.
        key: CommandKey,
    },
    /// A name is not allowed.
    #[error("{0}")]
    Name(#[from] NameError),
    /// The append has no events.
    #[error("an append needs at least one event")]
    NoEvents,
    /// The append has more events than allowed.
    #[error("the append has {count} events; at most {max} are allowed")]
    TooManyEvents {
        /// How many it has.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// One event's payload or metadata, or the whole append, is larger than allowed.
    #[error("{what} has {bytes} bytes; at most {max} are allowed")]
    TooLarge {
        /// What is too large: `payload`, `meta`, `append` or `result`.
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A payload or metadata is not well-formed JSON, not UTF-8 or nested too deeply.
    #[error("event {index}: {what} is not acceptable JSON: {reason}")]
    InvalidJson {
        /// Which event of the append, counted from 0.
        index: usize,
        /// `payload` or `meta`.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A binary payload's content type is not 1–200 bytes of visible ASCII.
    #[error("event {index}: the content type is not 1 to 200 visible ASCII characters")]
    InvalidContentType {
        /// Which event of the append, counted from 0.
        index: usize,
    },
    /// What a command answers is not well-formed JSON, not UTF-8 or nested too deeply.
    #[error("the result is not acceptable JSON: {reason}")]
    InvalidResult {
        /// What is wrong with it.
        reason: String,
    },
    /// More appends are waiting than the writer's queue holds. Try again later.
    #[error("too many appends are waiting")]
    Overloaded,
    /// The database cannot be reached just now; nothing was recorded. Try again later.
    #[error("the log is unavailable just now")]
    Unavailable,
    /// The database refused the append for a reason of its own.
    #[error("the database refused the append: {reason}")]
    Refused {
        /// SQLSTATE or the database's own code, with its text.
        reason: String,
    },
    /// The connection to the database was lost during the commit, and the store closed before
    /// it could find out what became of it. An append with client-made ids may be sent again.
    #[error("nobody knows whether the append was recorded")]
    Unknown,
    /// The store is closing.
    #[error("the store is closing")]
    Closed,
}

impl AppendError {
    /// The stable code of this error, as it appears on the wire.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongExpectedRevision { .. } => "wrong_expected_revision",
            Self::IdReused { .. } => "id_reused",
            Self::KeyReused { .. } => "key_reused",
            Self::Name(error) => error.code(),
            Self::NoEvents => "no_events",
            Self::TooManyEvents { .. } => "too_many_events",
            Self::TooLarge { .. } => "too_large",
            Self::InvalidJson { .. } | Self::InvalidResult { .. } => "invalid_json",
            Self::InvalidContentType { .. } => "invalid_content_type",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Refused { .. } => "refused",
            Self::Unknown => "outcome_unknown",
            Self::Closed => "closing",
        }
    }

    /// Whether the same append may succeed later.
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Overloaded | Self::Unavailable | Self::Closed)
    }
}

struct DisplayRevision(Option<Revision>);

impl std::fmt::Display for DisplayRevision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(revision) => write!(f, "revision {revision}"),
            None => f.write_str("no_stream"),
        }
    }
}

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The database cannot be reached just now. Try again later.
    #[error("the log is unavailable just now")]
    Unavailable,
    /// What the database holds is not a log that this program can read.
    #[error("the log holds what this program cannot read: {reason}")]
    Corrupt {
        /// What was found.
        reason: String,
    },
    /// The database refused the read for a reason of its own.
    #[error("the database refused the read: {reason}")]
    Refused {
        /// SQLSTATE or the database's own code, with its text.
        reason: String,
    },
}

impl ReadError {
    /// The stable code of this error, as it appears on the wire.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Corrupt { .. } => "corrupt",
            Self::Refused { .. } => "refused",
        }
    }

    /// Whether the same read may succeed later.
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable)
    }
}
