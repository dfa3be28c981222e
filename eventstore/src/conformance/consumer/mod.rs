//! Durable consumers: one owner at a time, progress that takes effect whole, shares that move on.
//!
//! The files: `claims` (who holds), `progress` (what is saved), `shares` (groups), `leases` (what
//! time does), `parked`, `listing` and `limits`.

pub mod claims;
pub mod leases;
pub mod limits;
pub mod listing;
pub mod parked;
pub mod progress;
pub mod shares;

use crate::{
    Claim, Claimed, ClaimedPartition, ConsumerError, ConsumerName, ConsumerStore, Fence,
    GlobalPosition, Holding, Kept, MemberId, Parked, Partition, Release, Save, Sharing, Target,
};

/// A consumer's name.
pub(super) fn name(name: &str) -> ConsumerName {
    ConsumerName::new(name).expect("the suite's names are good")
}

pub(super) fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

/// A claim of the whole log by a new member, beginning at the log's start.
pub(super) fn claim(consumer: &str, sharing: Sharing) -> Claim {
    Claim {
        name: name(consumer),
        sharing,
        member: MemberId::generate(),
        node: "a".into(),
        target: Target::All,
        filter: None,
        after: GlobalPosition::START,
    }
}

/// One who claimed, and what it was given.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) claim: Claim,
    pub(super) existed: bool,
    pub(super) partitions: Vec<ClaimedPartition>,
}

impl Owner {
    /// Claims as a new member.
    pub(super) async fn new(store: &dyn ConsumerStore, consumer: &str, sharing: Sharing) -> Self {
        Self::by(store, claim(consumer, sharing)).await
    }

    /// Makes `claim`.
    pub(super) async fn by(store: &dyn ConsumerStore, claim: Claim) -> Self {
        let claimed = store.claim(claim.clone()).await.expect("a good claim");
        let Claimed { existed, partitions } = claimed;
        assert!(partitions.is_sorted_by_key(|claimed| claimed.partition), "{partitions:?}");
        Self { claim, existed, partitions }
    }

    /// Claims again as the same member.
    pub(super) async fn again(&mut self, store: &dyn ConsumerStore) {
        *self = Self::by(store, self.claim.clone()).await;
    }

    /// The first partition that it was given.
    pub(super) fn first(&self) -> &ClaimedPartition {
        self.partitions.first().expect("it was given a partition")
    }

    pub(super) fn numbers(&self) -> Vec<u8> {
        self.partitions.iter().map(|claimed| claimed.partition.get()).collect()
    }

    /// A save of the first partition with nothing but a checkpoint.
    pub(super) fn save(&self, checkpoint: u64) -> Save {
        let ClaimedPartition { partition, fence, .. } = *self.first();
        self.save_of(partition, fence, checkpoint)
    }

    pub(super) fn save_of(&self, partition: Partition, fence: Fence, checkpoint: u64) -> Save {
        Save {
            name: self.claim.name.clone(),
            member: self.claim.member,
            partition,
            fence,
            checkpoint: at(checkpoint),
            attempts: Vec::new(),
            parked: Vec::new(),
            replayed: Vec::new(),
            release: None,
        }
    }

    /// Saves that let go of every partition as it was claimed.
    pub(super) fn releases(&self, release: Release) -> Vec<Save> {
        let released = |claimed: &ClaimedPartition| Save {
            attempts: claimed.attempts.clone(),
            release: Some(release),
            ..self.save_of(claimed.partition, claimed.fence, claimed.checkpoint.get())
        };
        self.partitions.iter().map(released).collect()
    }

    pub(super) fn holding(&self) -> Holding {
        let fenced = |claimed: &ClaimedPartition| (claimed.partition, claimed.fence);
        Holding {
            name: self.claim.name.clone(),
            member: self.claim.member,
            partitions: self.partitions.iter().map(fenced).collect(),
        }
    }

    pub(super) async fn keep(&self, store: &dyn ConsumerStore) -> Kept {
        let mut kept = store.keep(vec![self.holding()]).await.expect("holdings are kept");
        assert_eq!(kept.len(), 1, "one answer a holding");
        kept.pop().expect("just counted")
    }
}

/// Parks an event.
pub(super) fn parking(position: u64, attempts: u32, reason: &str) -> Parked {
    Parked { position: at(position), attempts, reason: reason.into() }
}

/// Saves one, and tells how it was answered.
pub(super) async fn saved(store: &dyn ConsumerStore, save: Save) -> Result<(), ConsumerError> {
    let mut answers = store.save(vec![save]).await.expect("saves are answered");
    assert_eq!(answers.len(), 1, "one answer a save");
    answers.pop().expect("just counted")
}

/// Saves all, and demands that each is recorded.
pub(super) async fn save_all(store: &dyn ConsumerStore, saves: Vec<Save>) {
    let count = saves.len();
    let answers = store.save(saves).await.expect("saves are answered");
    assert_eq!(answers.len(), count, "one answer a save");
    for answer in answers {
        answer.expect("a good save is recorded");
    }
}
