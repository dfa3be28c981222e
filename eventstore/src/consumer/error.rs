//! [`ConsumerError`]: why something asked of a consumer was refused.

use crate::{ConsumerName, GlobalPosition, ReadError};

/// Why something asked of a consumer was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerError {
    /// The consumer was created otherwise.
    #[error("consumer {name} exists with another {what}")]
    Mismatch {
        /// The consumer.
        name: ConsumerName,
        /// What differs: `sharing`, `target` or `filter`.
        what: &'static str,
    },
    /// Another claim holds the partition now, or its consumer was deleted.
    #[error("the consumer is held by somebody else now")]
    Fenced,
    /// There is no consumer of this name.
    #[error("there is no consumer {name}")]
    Unknown {
        /// The name.
        name: ConsumerName,
    },
    /// The log has as many consumers as it may have.
    #[error("the log has {max} consumers; delete some first")]
    TooManyConsumers {
        /// How many it may have.
        max: usize,
    },
    /// The group has as many members as it may have.
    #[error("the group has {max} members already")]
    TooManyMembers {
        /// How many it may have.
        max: usize,
    },
    /// The consumer has as many parked events as it may have.
    #[error("the consumer may have {max} parked events; replay or drop some first")]
    TooManyParked {
        /// How many it may have.
        max: usize,
    },
    /// Some of the events are not parked.
    #[error("{} of these events are not parked, the first at {}", .positions.len(), First(.positions))]
    NotParked {
        /// Their positions, in order.
        positions: Vec<GlobalPosition>,
    },
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] ReadError),
}

impl ConsumerError {
    /// The stable code of this error, as it appears on the wire.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Mismatch { .. } => "consumer_mismatch",
            Self::Fenced => "consumer_taken",
            Self::Unknown { .. } => "unknown_consumer",
            Self::TooManyConsumers { .. }
            | Self::TooManyMembers { .. }
            | Self::TooManyParked { .. } => "overloaded",
            Self::NotParked { .. } => "not_parked",
            Self::Store(error) => error.code(),
        }
    }

    /// Whether the same may succeed later.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::TooManyConsumers { .. }
            | Self::TooManyMembers { .. }
            | Self::TooManyParked { .. } => true,
            Self::Store(error) => error.retryable(),
            Self::Mismatch { .. }
            | Self::Fenced
            | Self::Unknown { .. }
            | Self::NotParked { .. } => false,
        }
    }
}

struct First<'a>(&'a [GlobalPosition]);

impl std::fmt::Display for First<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.first().copied().unwrap_or_default().fmt(f)
    }
}
