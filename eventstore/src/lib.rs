//! The log at the heart of Tidewire: append domain events, read them, follow them.
//!
//! Without features this crate is the **model** alone — names, positions, events — and needs
//! nothing but serde, uuid and bytes. Feature `store` adds the [`EventStore`] trait, the
//! group-committing writer, the follower and the memory store; features `postgres` and `sqlite`
//! add the databases; feature `conformance` adds the suite that every store has to pass.
//!
//! The one promise everything else leans on: **global positions are gapless and their order is
//! the order of commits.** A hole in what a reader saw is a lost event, and arithmetic finds it.

mod document;
mod event;
mod names;
mod partition;
#[doc(hidden)]
pub mod plant;
mod position;

pub use document::{DocumentKey, Generation, KeyError};
pub use event::{ERASED_TYPE, EventId, NewEvent, Payload, REMOVED_NAME, RecordedEvent, Timestamp};
pub use names::{
    Category, CommandKey, CommandName, ConsumerName, EventType, NAME_BYTES_MAX, NameError,
    ProjectionName, StreamName,
};
pub use partition::{PARTITIONS, Partition, PartitionSet, Sharing, StreamHash};
pub use position::{ExpectedRevision, GlobalPosition, NUMBER_MAX, Revision};

#[cfg(feature = "conformance")]
pub mod conformance;

#[cfg(feature = "store")]
mod admission;
#[cfg(feature = "store")]
mod consumer;
#[cfg(all(feature = "plant", feature = "store"))]
mod early_answers;
#[cfg(feature = "store")]
mod error;
#[cfg(feature = "store")]
mod execution;
#[cfg(feature = "store")]
mod follow;
#[cfg(feature = "store")]
mod json;
#[cfg(feature = "store")]
mod limits;
#[cfg(feature = "store")]
mod memory;
#[cfg(feature = "store")]
mod plan;
#[cfg(all(test, feature = "store"))]
mod plan_model;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "store")]
mod queue;
#[cfg(feature = "store")]
mod removal;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "store")]
mod stats;
#[cfg(feature = "store")]
mod store;
#[cfg(feature = "store")]
mod writer;
#[cfg(all(test, feature = "store"))]
mod writer_faults;

#[cfg(feature = "store")]
pub use consumer::{
    CONSUMERS_PAGE_MAX, Claim, Claimed, ClaimedPartition, ConsumerError, ConsumerInfo,
    ConsumerStore, Fence, Holder, Holding, Kept, MemberId, NODE_BYTES_MAX, PARKED_PAGE_MAX, Parked,
    ParkedInfo, ParkedPage, Positions, REPLAYS_TOLD_MAX, Release, Save,
};
#[cfg(feature = "store")]
pub use error::{AppendError, ReadError};
#[cfg(feature = "store")]
pub use execution::{Executed, Execution, InputDigest, PendingExecution};
#[cfg(feature = "store")]
pub use follow::{LogTail, TailBatch, TailConfig, TailEpochs, TailNews, follow};
#[cfg(feature = "store")]
pub use limits::Limits;
#[cfg(feature = "store")]
pub use memory::MemoryStore;
#[cfg(feature = "store")]
pub use removal::{EventRef, Removal, Removals, RemoveError, Removed};
#[cfg(feature = "sqlite")]
pub use sqlite::{OpenError, SqliteOptions, SqliteRole, SqliteStore, WriteTurn, WriteTurns};
#[cfg(feature = "store")]
pub use stats::{HistogramStats, StoreStats};
#[cfg(feature = "store")]
pub use store::{
    Append, Appended, BoxFuture, Commit, CommitFeed, Direction, EventStore, LogEpoch, LogHead,
    Page, PendingAppend, Read, ReadStart, Target,
};
