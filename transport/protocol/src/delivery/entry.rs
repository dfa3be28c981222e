//! One unsettled event: where it is, and what it has been through.

use std::time::Instant;

use tidewire_eventstore::{GlobalPosition, StreamHash};

/// An event that was taken from the feed, or is to be replayed, and is not settled.
///
/// There are many, and nearly all of them have no history: it is kept apart.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) position: GlobalPosition,
    pub(super) stream: StreamHash,
    history: Option<Box<History>>,
}

/// What sets an event apart from one that was sent once and is being processed.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Attempts that failed.
    pub(super) charges: u32,
    /// How many of them do not count, because they were before a replay.
    pub(super) forgiven: u32,
    /// Whether it was parked before, and is delivered once more.
    pub(super) replay: bool,
    /// Whether the client had it, gave it back, and expects it again.
    pub(super) expected: bool,
    /// The number of its last sending alone, if there was one.
    pub(super) sending: Option<u64>,
    /// The highest position told when it was sent out of order. It may meet an ack on its way
    /// that was said before, so an ack covers it only if it names what was told later, or this
    /// very event.
    pub(super) late: Option<GlobalPosition>,
    /// It is late because a replay of a later event went before it, and came with the feed: so
    /// the position of one that did so later shows that it was seen, too.
    pub(super) fed: bool,
    pub(super) place: Place,
}

/// Where an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Place {
    /// With the client.
    #[default]
    Client,
    /// With the client, which is silent about it; it is to be sent again.
    Overdue { due: Instant, reading: bool },
    /// Not with the client: it waits for its time, or for an earlier event of its stream.
    Away { due: Instant, reading: bool },
}

impl Place {
    pub(super) fn is_reading(self) -> bool {
        matches!(self, Self::Overdue { reading: true, .. } | Self::Away { reading: true, .. })
    }

    /// The same place, being read or not.
    pub(super) fn with_reading(self, reading: bool) -> Self {
        match self {
            Self::Client => Self::Client,
            Self::Overdue { due, .. } => Self::Overdue { due, reading },
            Self::Away { due, .. } => Self::Away { due, reading },
        }
    }

    /// The same place until `due`.
    pub(super) fn put_off(self, due: Instant) -> Self {
        match self {
            Self::Client => Self::Client,
            Self::Overdue { .. } => Self::Overdue { due, reading: false },
            Self::Away { .. } => Self::Away { due, reading: false },
        }
    }
}

impl Entry {
    pub(super) fn new(position: GlobalPosition, stream: StreamHash) -> Self {
        Self { position, stream, history: None }
    }

    pub(super) fn history(&self) -> Option<&History> {
        self.history.as_deref()
    }

    pub(super) fn history_mut(&mut self) -> &mut History {
        self.history.get_or_insert_default()
    }

    pub(super) fn place(&self) -> Place {
        self.history().map_or(Place::Client, |history| history.place)
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self.place(), Place::Away { .. })
    }

    pub(super) fn is_overdue(&self) -> bool {
        matches!(self.place(), Place::Overdue { .. })
    }

    pub(super) fn is_replay(&self) -> bool {
        self.history().is_some_and(|history| history.replay)
    }

    pub(super) fn charges(&self) -> u32 {
        self.history().map_or(0, |history| history.charges)
    }

    /// The charges that count towards being parked.
    pub(super) fn spent(&self) -> u32 {
        self.history().map_or(0, |history| history.charges.saturating_sub(history.forgiven))
    }
}
