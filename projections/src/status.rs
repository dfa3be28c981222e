//! What can be asked of a projection: [`ProjectionStatus`] for people and the API,
//! [`ProjectionStats`] for metrics.

use std::{sync::Arc, time::Duration};

use tidewire_eventstore::{Generation, GlobalPosition, ProjectionName};

use crate::documents::{GenerationStatus, Status};

/// What a projection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProjectionState {
    /// Some node runs it.
    Running,
    /// It stopped at an event, or because its documents do not belong to the log; the status says
    /// why. Other projections are not affected.
    Stopped,
    /// Its documents are of another version than the definition on this node. They are served,
    /// and go no further.
    Outdated,
    /// No node owns it just now.
    Waiting,
}

impl ProjectionState {
    /// The stable word for it, in metrics and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Outdated => "outdated",
            Self::Waiting => "waiting",
        }
    }

    /// What a projection of this status is doing, where its definition has `version`.
    pub fn of(status: &Status, version: u32) -> Self {
        if status.active.stopped.is_some() {
            Self::Stopped
        } else if status.active.version != version {
            Self::Outdated
        } else if status.owner.is_none() {
            Self::Waiting
        } else {
            Self::Running
        }
    }
}

/// How far behind the log a projection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Positions between its checkpoint and the head of the log, whether they are for it or not.
    pub events: u64,
    /// The age of the first event that it has yet to project; zero where there is none.
    pub age: Duration,
}

/// How far a rebuild has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// The generation that is being filled.
    pub generation: Generation,
    /// Everything through here is in it.
    pub position: GlobalPosition,
    /// Where the log ends.
    pub head: GlobalPosition,
    /// Positions a second, of late; 0 while not known.
    pub events_per_second: f64,
    /// How long the rest takes at that pace; none while not known.
    pub left: Option<Duration>,
}

impl Progress {
    /// The progress of `building` towards `head`, at `events_per_second`.
    pub fn of(building: &GenerationStatus, head: GlobalPosition, events_per_second: f64) -> Self {
        let position = building.checkpoint;
        let distance = head.distance_from(position) as f64;
        let left = if building.stopped.is_some() || events_per_second <= 0.0 {
            None
        } else {
            Duration::try_from_secs_f64(distance / events_per_second).ok()
        };
        Self { generation: building.generation, position, head, events_per_second, left }
    }
}

/// Everything about one projection, as the database has it now.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectionStatus {
    /// What the database has.
    pub status: Status,
    /// The version of the definition on this node.
    pub version: u32,
    /// What it is doing.
    pub state: ProjectionState,
    /// Whether this node runs it.
    pub owned: bool,
    /// Where the log ends.
    pub head: GlobalPosition,
    /// How far behind it is.
    pub lag: Lag,
    /// How far a rebuild has come, if there is one.
    pub progress: Option<Progress>,
}

/// One projection as this node knows it, without asking the database.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectionStats {
    /// Its name.
    pub name: ProjectionName,
    /// The generation that is read.
    pub generation: Generation,
    /// Everything through here is in its documents.
    pub checkpoint: GlobalPosition,
    /// Where the log ends.
    pub head: GlobalPosition,
    /// How far behind it is, its age as of the last look (at most [`crate::Config::poll`] ago).
    pub lag: Lag,
    /// What it is doing.
    pub state: ProjectionState,
    /// Why it stopped, if it did.
    pub stopped: Option<Arc<str>>,
    /// Whether this node runs it.
    pub owned: bool,
    /// Events that the generation has parked.
    pub parked: u64,
    /// Events that this node has projected, in all generations.
    pub events_total: u64,
    /// Transactions of documents that this node has committed.
    pub commits_total: u64,
    /// Documents that this node has written.
    pub writes_total: u64,
    /// Events that failed on this node, each time they were tried.
    pub poison_total: u64,
    /// Times that this node has become the owner.
    pub claims_total: u64,
    /// Who follows it on this node.
    pub followers: usize,
    /// How far a rebuild has come, if there is one.
    pub rebuild: Option<Progress>,
}
