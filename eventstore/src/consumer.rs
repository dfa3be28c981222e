//! [`ConsumerStore`]: where durable, named subscriptions are kept, so that they outlive sessions,
//! servers and restarts.
//!
//! A consumer remembers how far it has come (its checkpoint), which events failed how often, and
//! which were parked. An exclusive consumer has one partition with all streams; a group has
//! [`PARTITIONS`](crate::PARTITIONS) of them, shared by its members. Each partition has one owner
//! at a time. Every claim of it raises its **fence**, and whatever comes with an older fence is
//! refused: that is what makes "one at a time" hold even for a session that has not noticed yet.
//!
//! Nothing here knows a session or a clock of the caller's: leases run by the clock of whoever
//! keeps the data.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod batch;
mod error;
mod info;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod kept;
pub(crate) mod progress;
pub(crate) mod shares;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod text;

use uuid::Uuid;

pub use self::{
    error::ConsumerError,
    info::{ConsumerInfo, Holder, ParkedInfo, ParkedPage, Positions},
    progress::{Parked, Release, Save},
};
use crate::{BoxFuture, ConsumerName, GlobalPosition, Partition, ReadError, Sharing, Target};

/// The longest name of a node that is kept, in bytes; what is longer is cut.
pub const NODE_BYTES_MAX: usize = 200;

/// At most so many replays of one partition are under way at a time: asked for, told to the
/// partition's owner, and not yet settled. The others are told as these are settled.
pub const REPLAYS_TOLD_MAX: usize = 1024;

/// The largest page of consumers.
pub const CONSUMERS_PAGE_MAX: usize = 100;

/// The largest page of parked events.
pub const PARKED_PAGE_MAX: usize = 1000;

/// The durable consumers of one log.
///
/// Futures may be dropped at any time; what they asked for then took place as a whole or not at
/// all.
pub trait ConsumerStore: Send + Sync {
    /// Claims a consumer for a session, creating it where there is none.
    ///
    /// An exclusive consumer goes over to the newest claim at once. A member of a group is given
    /// free partitions, those without an owner or whose owner's lease is over, up to its quota;
    /// that may be none at all. A member that claims again lets go of what it still had.
    ///
    /// # Errors
    ///
    /// [`ConsumerError::Mismatch`] when the consumer exists with another sharing, target or
    /// filter; [`ConsumerError::TooManyConsumers`] and [`ConsumerError::TooManyMembers`] at the
    /// limits.
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, ConsumerError>>;

    /// Records the progress of partitions, all in one transaction, and answers each in order.
    ///
    /// What one save says takes effect together: checkpoint, attempts, parked events, release. A
    /// checkpoint never moves back. A save that is refused does not hinder the others.
    ///
    /// Each is answered [`ConsumerError::Fenced`] when the partition is another's by now or its
    /// consumer was deleted, and [`ConsumerError::TooManyParked`] when its parked events would be
    /// too many; then nothing of it is recorded, but its release takes effect all the same, so
    /// that the next owner delivers those events again.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when nothing was recorded, as far as can be told: sending the saves again is
    /// safe.
    fn save(
        &self,
        saves: Vec<Save>,
    ) -> BoxFuture<'_, Result<Vec<Result<(), ConsumerError>>, ReadError>>;

    /// Renews the leases of everything that a node holds, and tells what has become of it, each
    /// in order. Meant to be called about once a second, with all that the node holds.
    ///
    /// # Errors
    ///
    /// [`ReadError`] while the database is away.
    fn keep(&self, held: Vec<Holding>) -> BoxFuture<'_, Result<Vec<Kept>, ReadError>>;

    /// A member goes. What it still owned is free for others; whether that was left in order is
    /// for its saves to have said before. A member that is to claim again at once, because shares
    /// change, had better stay.
    ///
    /// # Errors
    ///
    /// [`ReadError`] while the database is away; the lease runs out then.
    fn leave(&self, name: ConsumerName, member: MemberId) -> BoxFuture<'_, Result<(), ReadError>>;

    /// The consumers by name, those after `after`, at most `limit` (1 to
    /// [`CONSUMERS_PAGE_MAX`], cut to that range). A full page means that there may be more.
    ///
    /// # Errors
    ///
    /// [`ReadError`] while the database is away.
    fn consumers(
        &self,
        after: Option<ConsumerName>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConsumerInfo>, ReadError>>;

    /// One consumer.
    ///
    /// # Errors
    ///
    /// [`ConsumerError::Unknown`] when there is none of this name.
    fn consumer(&self, name: ConsumerName) -> BoxFuture<'_, Result<ConsumerInfo, ConsumerError>>;

    /// Deletes a consumer with all that it remembers. Whoever holds it finds it lost.
    ///
    /// # Errors
    ///
    /// [`ConsumerError::Unknown`] when there is none of this name.
    fn delete_consumer(&self, name: ConsumerName) -> BoxFuture<'_, Result<(), ConsumerError>>;

    /// The parked events of a consumer after a position, at most `limit` (1 to
    /// [`PARKED_PAGE_MAX`], cut to that range), in order.
    ///
    /// # Errors
    ///
    /// [`ConsumerError::Unknown`] when there is no such consumer.
    fn parked(
        &self,
        name: ConsumerName,
        after: GlobalPosition,
        limit: usize,
    ) -> BoxFuture<'_, Result<ParkedPage, ConsumerError>>;

    /// Asks for parked events to be delivered again; answers how many. They stay parked until
    /// they are settled. The owner of their partition is told by its claim or when it keeps it.
    ///
    /// # Errors
    ///
    /// [`ConsumerError::Unknown`] when there is no such consumer; [`ConsumerError::NotParked`]
    /// when a listed event is not parked, and then none is asked for.
    fn replay(
        &self,
        name: ConsumerName,
        positions: Positions,
    ) -> BoxFuture<'_, Result<u64, ConsumerError>>;

    /// Forgets parked events for good; answers how many.
    ///
    /// # Errors
    ///
    /// As [`Self::replay`].
    fn drop_parked(
        &self,
        name: ConsumerName,
        positions: Positions,
    ) -> BoxFuture<'_, Result<u64, ConsumerError>>;
}

/// Which claim of a partition something belongs to. Each claim has a higher one than those
/// before, even across the deletion of its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// A fence by its number.
    pub const fn new(fence: u64) -> Self {
        Self(fence)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Who claims: one subscription of one session. The same for as long as that subscription wants
/// the consumer, also when it claims again because the shares of a group change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(Uuid);

impl MemberId {
    /// A new member.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id as a UUID.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for MemberId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

/// A claim of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The consumer.
    pub name: ConsumerName,
    /// Whether it has one holder or several.
    pub sharing: Sharing,
    /// Who claims.
    pub member: MemberId,
    /// The node on which the session is, for people to read.
    pub node: String,
    /// Which events. Fixed at creation.
    pub target: Target,
    /// Which of them: a filter as canonical JSON text. Fixed at creation.
    pub filter: Option<String>,
    /// Where the consumer begins if this claim creates it: its first checkpoint.
    pub after: GlobalPosition,
}

/// What a claim was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Whether the consumer was there before.
    pub existed: bool,
    /// The partitions, in order.
    pub partitions: Vec<ClaimedPartition>,
}

/// One partition, as its new owner finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedPartition {
    /// Which one.
    pub partition: Partition,
    /// The fence of this claim.
    pub fence: Fence,
    /// Everything up to here is settled.
    pub checkpoint: GlobalPosition,
    /// Whether the last owner did not let go of it in order.
    pub unclean: bool,
    /// How often unsettled events were charged, as the last save told.
    pub attempts: Vec<(GlobalPosition, u32)>,
    /// Parked events to deliver again, in order, with their attempts so far. At most
    /// [`REPLAYS_TOLD_MAX`]; [`ConsumerStore::keep`] tells the others.
    pub replays: Vec<(GlobalPosition, u32)>,
}

/// What a node holds of one consumer for one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The consumer.
    pub name: ConsumerName,
    /// The member.
    pub member: MemberId,
    /// Its partitions, with the fences of its claim. A member of a group may have none.
    pub partitions: Vec<(Partition, Fence)>,
}

/// What has become of a holding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Something of it is another's now, its lease ran out and was acted on, or the consumer was
    /// deleted: nothing can be saved any more.
    pub lost: bool,
    /// The shares of the group change: it has more than its quota, or less while some partitions
    /// are free.
    pub rebalance: bool,
    /// Parked events that are to be delivered again, each told once a claim; told again only
    /// where an earlier answer was lost on its way.
    pub replays: Vec<(Partition, GlobalPosition, u32)>,
}
