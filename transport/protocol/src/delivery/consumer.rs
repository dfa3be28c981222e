//! What a session and the keeper of consumers tell each other.

use tidewire_eventstore::{GlobalPosition, Partition};

use crate::messages::{ConsumerRef, FeedSpec};

/// A wish to hold a consumer, or a share of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Which consumer.
    pub consumer: ConsumerRef,
    /// What it delivers; fixed when it is created.
    pub feed: FeedSpec,
    /// Where it begins if it is created now.
    pub after: GlobalPosition,
}

/// What a session was given of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whether the consumer was there before.
    pub existed: bool,
    /// The partitions: exactly the first one for an exclusive consumer, any number for a group.
    pub partitions: Vec<GrantedPartition>,
}

impl Grant {
    /// What the log remembers already, for a grant that is given back unused.
    pub fn untouched(self) -> Progress {
        let untouched = |granted: GrantedPartition| PartitionProgress {
            partition: granted.partition,
            checkpoint: granted.checkpoint,
            attempts: granted.attempts,
            parked: Vec::new(),
            replayed: Vec::new(),
        };
        Progress { partitions: self.partitions.into_iter().map(untouched).collect() }
    }
}

/// One partition as it was left by whoever held it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedPartition {
    /// Which.
    pub partition: Partition,
    /// Everything of it up to here is settled.
    pub checkpoint: GlobalPosition,
    /// Whether its last holder vanished without letting go of it.
    pub unclean: bool,
    /// The charges of events past the checkpoint.
    pub attempts: Vec<(GlobalPosition, u32)>,
    /// Parked events that somebody wants delivered again, with their charges.
    pub replays: Vec<(GlobalPosition, u32)>,
}

/// What the log has to remember of a subscription to a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// To save: the partitions that have changed. To release: all that the session holds. In the
    /// order of their numbers.
    pub partitions: Vec<PartitionProgress>,
}

/// How far one partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionProgress {
    /// Which.
    pub partition: Partition,
    /// Everything of it up to here is settled.
    pub checkpoint: GlobalPosition,
    /// All unsettled events that have been charged, with their charges.
    pub attempts: Vec<(GlobalPosition, u32)>,
    /// Events parked since the last save that succeeded.
    pub parked: Vec<ParkedEvent>,
    /// Replays that were settled since the last save that succeeded.
    pub replayed: Vec<GlobalPosition>,
}

/// An event that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Which.
    pub position: GlobalPosition,
    /// How often it was attempted.
    pub attempts: u32,
    /// Why it was parked.
    pub reason: String,
}
