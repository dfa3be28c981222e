//! Removing events: what can be asked for, and what it comes to.
//!
//! The log never loses a position. Of a removed event a row remains that holds its position and
//! nothing else of it; where its stream goes on is remembered apart. The removed events of a
//! stream are always its oldest, so one revision a stream says which they are.

use std::time::Duration;

use crate::{Appended, Category, GlobalPosition, ReadError, Revision, StreamName, Timestamp};

/// What to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// The events of a stream before a revision. Those from it on stay.
    Truncate {
        /// The stream.
        stream: StreamName,
        /// The first revision that stays. All events go where it is beyond the last one.
        before: Revision,
    },
    /// Every event of a stream. It then has none, and goes on with the next revision.
    Delete {
        /// The stream.
        stream: StreamName,
    },
    /// The payload and the metadata of one event, which stands otherwise. In the same transaction
    /// an event of type `$erased` is appended to its stream, which says so to whoever has a copy.
    Erase(EventRef),
    /// The oldest events of a category, up to the first that is younger than this.
    Older {
        /// The category.
        category: Category,
        /// The age at which an event has to go.
        than: Duration,
    },
    /// The oldest events of a category, as many as lie before its newest ones of so many bytes.
    Beyond {
        /// The category.
        category: Category,
        /// How many bytes of payload and metadata may stay.
        bytes: u64,
    },
}

/// Names one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventRef {
    /// By where it stands in the log.
    Position(GlobalPosition),
    /// By where it stands in its stream.
    Revision(StreamName, Revision),
}

/// What a removal came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Events that were removed or erased: none, where it had been done before.
    pub events: u64,
    /// The bytes of their payloads and metadata.
    pub bytes: u64,
    /// The position of the last of them.
    pub last: Option<GlobalPosition>,
    /// Where the `$erased` event was appended, for an erasure that was not made before.
    pub erasure: Option<Appended>,
}

impl Removed {
    /// Adds what one more batch came to.
    #[cfg_attr(not(any(feature = "postgres", feature = "sqlite")), allow(dead_code))]
    pub(crate) fn add(&mut self, batch: Self) {
        self.events += batch.events;
        self.bytes += batch.bytes;
        self.last = self.last.max(batch.last);
        self.erasure = self.erasure.or(batch.erasure);
    }
}

/// What was removed from a log so far. Erasures do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removals {
    /// How often something was: it rises with each batch.
    pub batches: u64,
    /// The highest position of a removed event. Whoever has seen the log through it has missed
    /// nothing.
    pub through: GlobalPosition,
}

/// Why nothing was removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is no such event.
    #[error("there is no such event")]
    NotFound,
    /// The event is one of Tidewire's own, whose type begins with `$`.
    #[error("an event of Tidewire's own cannot be erased")]
    Reserved,
    /// The store could not.
    #[error(transparent)]
    Store(#[from] ReadError),
}

impl RemoveError {
    /// The stable code of this error, as it appears on the wire.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "unknown_event",
            Self::Reserved => "name_reserved",
            Self::Store(error) => error.code(),
        }
    }

    /// Whether the same removal may succeed later.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::NotFound | Self::Reserved => false,
            Self::Store(error) => error.retryable(),
        }
    }
}

/// Events removed in one transaction, so that nobody who appends waits long for it.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) const BATCH_EVENTS: u32 = 500;

/// The moment before which an event is older than `age`.
pub(crate) fn older_than(age: Duration) -> Timestamp {
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(Timestamp::now().as_micros().saturating_sub(age))
}

/// The payload of the `$erased` event for an event.
pub(crate) fn erasure_data(
    position: GlobalPosition,
    revision: Revision,
    id: crate::EventId,
) -> String {
    format!("{{\"position\":{position},\"revision\":{revision},\"id\":\"{id}\"}}")
}

/// Where to read from instead, for whoever has seen a target through `after`: see
/// [`EventStore::retained_after`](crate::EventStore::retained_after).
///
/// `removed` is the target's last removed event and `first` the first that is left; `next` is the
/// position after the head. Where something is left before the last removed event, only the
/// beginning of the log is a place that tells a reader who starts over from one who goes on.
pub(crate) fn read_instead(
    after: GlobalPosition,
    removed: Option<GlobalPosition>,
    first: Option<GlobalPosition>,
    next: GlobalPosition,
) -> Option<GlobalPosition> {
    let removed = removed.filter(|removed| *removed > after && after > GlobalPosition::START)?;
    let first = first.unwrap_or(next);
    Some(if first > removed { first } else { GlobalPosition::START.next() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_reads_from_where_they_are_told_is_not_told_again() {
        let at = GlobalPosition::new;
        for (after, removed, first, expected) in [
            (4, None, Some(1), None),
            // A prefix is gone.
            (4, Some(7), Some(9), Some(9)),
            (7, Some(7), Some(9), None),
            (8, Some(7), Some(9), None),
            // What is left lies on both sides.
            (4, Some(7), Some(2), Some(1)),
            (6, Some(7), Some(2), Some(1)),
            // Nothing is left.
            (4, Some(7), None, Some(21)),
            // The beginning.
            (0, Some(7), Some(9), None),
        ] {
            let told = |after| read_instead(after, removed.map(at), first.map(at), at(21));
            assert_eq!(told(at(after)), expected.map(at), "after {after}");
            if let Some(first) = expected {
                assert_eq!(told(at(first).previous()), None, "told twice after {after}");
            }
        }
    }
}
