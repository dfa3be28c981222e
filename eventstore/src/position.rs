//! Numbers with a meaning: where an event stands in the log and in its stream.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest position or revision: 2^53 − 1, so that every one is exact as a JSON number.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// Where an event stands in the whole log. The first event has position 1; [`Self::START`] (0)
/// stands before it. Positions are gapless and rise in commit order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct GlobalPosition(u64);

impl GlobalPosition {
    /// Before the first event.
    pub const START: Self = Self(0);

    /// A position, 0 to [`NUMBER_MAX`]; larger numbers are cut to that.
    pub const fn new(position: u64) -> Self {
        Self(if position > NUMBER_MAX { NUMBER_MAX } else { position })
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position after this one.
    pub const fn next(self) -> Self {
        Self::new(self.0 + 1)
    }

    /// The position before this one; [`Self::START`] stays.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many events stand after `earlier` up to and including this one; 0 if none.
    pub const fn distance_from(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for GlobalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an event stands in its stream. The first event of a stream has revision 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(u64);

impl Revision {
    /// The revision of a stream's first event.
    pub const FIRST: Self = Self(0);

    /// A revision, 0 to [`NUMBER_MAX`]; larger numbers are cut to that.
    pub const fn new(revision: u64) -> Self {
        Self(if revision > NUMBER_MAX { NUMBER_MAX } else { revision })
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision after this one.
    pub const fn next(self) -> Self {
        Self::new(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an append demands of its stream before it takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExpectedRevision {
    /// Nothing.
    #[default]
    Any,
    /// The stream has no events.
    NoStream,
    /// The stream has at least one event.
    Exists,
    /// The stream's last event has this revision.
    Exact(Revision),
}

impl ExpectedRevision {
    /// Whether a stream whose last event has revision `current` (none: no events) meets this.
    pub fn is_met_by(self, current: Option<Revision>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => current.is_none(),
            Self::Exists => current.is_some(),
            Self::Exact(revision) => current == Some(revision),
        }
    }
}

impl fmt::Display for ExpectedRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::NoStream => f.write_str("no_stream"),
            Self::Exists => f.write_str("exists"),
            Self::Exact(revision) => revision.fmt(f),
        }
    }
}
