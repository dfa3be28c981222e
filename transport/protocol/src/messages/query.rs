//! The words of live queries, of pages of documents, and of summaries.

use std::collections::BTreeMap;

use tidewire_eventstore::{EventType, GlobalPosition, Timestamp};
use uuid::Uuid;

use super::Sub;
use crate::query::{Query, Reached};

/// `subscribe` to a projection: the documents of a query, and then their changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Its handle.
    pub sub: Sub,
    /// Which documents.
    pub query: Query,
    /// What the client holds of them; none: nothing.
    pub after: Option<Reached>,
    /// The epoch that `after` was learnt in; none: the one that `hello` named, if any.
    pub epoch: Option<Uuid>,
}

/// Why a live query does not go on from what its client holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryReset {
    /// The projection was rebuilt: another generation is the active one.
    Generation,
    /// It is no longer known which documents were deleted since.
    Truncated,
    /// The log has begun a new epoch since.
    Epoch,
    /// The client's position is beyond the head of the log.
    Ahead,
    /// What a window has lost since cannot be told from the changes alone.
    Window,
}

impl QueryReset {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Generation, Self::Truncated, Self::Epoch, Self::Ahead, Self::Window];

    /// The reason as it appears on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Generation => "generation",
            Self::Truncated => "truncated",
            Self::Epoch => "epoch",
            Self::Ahead => "ahead",
            Self::Window => "window",
        }
    }

    /// The reason with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// `fetch` from a projection: one page of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryRequest {
    /// Which documents, and in which order. The limit of its window, if it has one, is the
    /// page's.
    pub query: Query,
    /// Where the page begins: what an earlier page named.
    pub cursor: Option<Box<str>>,
    /// At most this many documents, at least 1; already cut to the server's limit.
    pub limit: usize,
    /// Read no earlier than when the projection has reached this.
    pub wait: Option<GlobalPosition>,
    /// How long to wait for that, in milliseconds.
    pub timeout_ms: u32,
}

impl QueryRequest {
    /// The longest cursor, in bytes.
    pub const CURSOR_BYTES_MAX: usize = 8192;
    /// How long to wait where the client does not say, in milliseconds.
    pub const TIMEOUT_MS_DEFAULT: u32 = 5_000;
    /// The longest that a client may wait, in milliseconds.
    pub const TIMEOUT_MS_MAX: u32 = 30_000;

    /// The first page of a query, read at once.
    pub fn new(query: Query, limit: usize) -> Self {
        Self { query, cursor: None, limit, wait: None, timeout_ms: Self::TIMEOUT_MS_DEFAULT }
    }
}

/// What is counted together, where a subscription wants counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Summary {
    /// The events of this many milliseconds, [`Self::MILLIS_MIN`] to [`Self::MILLIS_MAX`].
    Millis(u32),
    /// This many events, 1 to [`Self::EVENTS_MAX`].
    Events(u32),
}

impl Summary {
    /// The shortest time.
    pub const MILLIS_MIN: u32 = 100;
    /// The longest time.
    pub const MILLIS_MAX: u32 = 60_000;
    /// The most events.
    pub const EVENTS_MAX: u32 = 100_000;
}

/// How many events there were between two positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryWindow {
    /// The events after this position
    pub after: GlobalPosition,
    /// through this one.
    pub position: GlobalPosition,
    /// How many of each type.
    pub counts: BTreeMap<EventType, u64>,
    /// When the first of them was recorded, and the last; none where nothing was counted.
    pub between: Option<(Timestamp, Timestamp)>,
}

impl SummaryWindow {
    /// How many events there were of all types.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }
}
