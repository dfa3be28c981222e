//! What people are told about consumers and their parked events.

use crate::{
    ConsumerName, EventType, GlobalPosition, MemberId, PartitionSet, Sharing, StreamName, Target,
    Timestamp,
};

/// A consumer, as people look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its name.
    pub name: ConsumerName,
    /// Whether it has one holder or several.
    pub sharing: Sharing,
    /// Which events it is about.
    pub target: Target,
    /// Which of them: a filter as canonical JSON text.
    pub filter: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Who holds it, by member; of those whose lease still runs.
    pub holders: Vec<Holder>,
    /// Its lowest checkpoint: everything of every partition up to here is settled.
    pub checkpoint: GlobalPosition,
    /// How many events are parked.
    pub parked: u64,
}

/// One who holds a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The member.
    pub member: MemberId,
    /// The node on which its session is.
    pub node: String,
    /// Its partitions.
    pub partitions: PartitionSet,
}

/// A parked event, as people look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedInfo {
    /// Where the event stands in the log.
    pub position: GlobalPosition,
    /// Its stream; none where the log has no such event.
    pub stream: Option<StreamName>,
    /// Its type; none where the log has no such event.
    pub event_type: Option<EventType>,
    /// How often its delivery was tried.
    pub attempts: u32,
    /// Why it was parked.
    pub reason: String,
    /// When it was parked.
    pub parked_at: Timestamp,
    /// Whether it was asked to be delivered again and is not settled yet.
    pub replaying: bool,
}

/// Some parked events, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedPage {
    /// The events.
    pub parked: Vec<ParkedInfo>,
    /// Whether there are more after them.
    pub more: bool,
}

/// Which of a consumer's parked events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// All of them.
    All,
    /// Those at these positions.
    Listed(Vec<GlobalPosition>),
}

impl Positions {
    /// The listed positions in order, each once; none when all are meant.
    pub(crate) fn into_listed(self) -> Option<Vec<GlobalPosition>> {
        match self {
            Self::All => None,
            Self::Listed(mut positions) => {
                positions.sort_unstable();
                positions.dedup();
                Some(positions)
            }
        }
    }
}
