//! [`Definition`]: what a projection is called, which events it wants, and what its documents can
//! be asked for.

use tidewire_eventstore::{EventType, ProjectionName, RecordedEvent, Target};
use tidewire_protocol::query::FieldPath;

/// The most fields that a projection's documents can be asked for.
pub const FIELDS_MAX: usize = 64;

/// The most indexes of a projection.
pub const INDEXES_MAX: usize = 8;

/// The most fields of one index.
pub const INDEX_FIELDS_MAX: usize = 4;

/// What a projection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: ProjectionName,
    /// Raised when the same events would give other documents, or the indexes change. Documents of
    /// another version are never mixed with this one's: they have to be rebuilt.
    pub version: u32,
    /// Which events it wants.
    pub target: Target,
    /// Only events of these types; all of them if empty.
    pub types: Vec<EventType>,
    /// The fields that a condition may name, besides those of the indexes.
    pub fields: Vec<FieldPath>,
    /// What documents can be ordered by, and found by without looking at all of them.
    pub indexes: Vec<Index>,
}

/// An index: documents in the order of these fields, the first being the most significant. With
/// `["mailbox", "received_at"]` the newest of one mailbox are found at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// At least one, at most [`INDEX_FIELDS_MAX`].
    pub fields: Vec<FieldPath>,
}

impl Definition {
    /// Whether the projection is given `event`: it belongs to the target and has one of the types,
    /// and it was not removed.
    pub fn wants(&self, event: &RecordedEvent) -> bool {
        !event.is_removed()
            && (self.types.is_empty() || self.types.contains(&event.event_type))
            && self.target.includes(&event.stream)
    }

    /// Whether a condition may name `field`.
    pub fn knows(&self, field: &FieldPath) -> bool {
        self.fields.contains(field) || self.indexes.iter().any(|index| index.fields.contains(field))
    }
}
