//! Groups: shares by quota, one owner a partition, and nothing forgotten when a share moves.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Owner, at, save_all, saved};
use crate::{
    ClaimedPartition, ConsumerError, ConsumerStore, EventStore, Fence, Partition, PartitionSet,
    Release, Save, Sharing,
};

/// Members that are told to, let go and claim anew, until nobody is told any more; returns how
/// many rounds that took.
async fn settle(store: &dyn ConsumerStore, owners: &mut [Owner]) -> usize {
    for round in 0..20 {
        let held = owners.iter().map(Owner::holding).collect();
        let kept = store.keep(held).await.expect("holdings are kept");
        assert!(kept.iter().all(|kept| !kept.lost), "nobody loses what it keeps");
        if kept.iter().all(|kept| !kept.rebalance) {
            return round;
        }
        for (owner, _) in owners.iter_mut().zip(kept).filter(|(_, kept)| kept.rebalance) {
            save_all(store, owner.releases(Release::Clean)).await;
            owner.again(store).await;
        }
    }
    panic!("the shares do not settle");
}

fn assert_all_have_one_owner(owners: &[Owner]) {
    let mut all: Vec<_> = owners.iter().flat_map(Owner::numbers).collect();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..64), "each partition has one owner: {all:?}");
}

/// However many members come, each soon has its share and no two the same.
pub async fn shares_are_even_for_any_number_of_members(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let mut owners: Vec<Owner> = Vec::new();
    for count in [1, 2, 3, 4, 5, 65] {
        while owners.len() < count {
            owners.push(Owner::new(&*consumers, "mail", Sharing::Group).await);
        }
        let rounds = settle(&*consumers, &mut owners).await;
        assert!(rounds <= 6, "{rounds} rounds for {count} members");
        assert_all_have_one_owner(&owners);
        let mut sizes: Vec<_> = owners.iter().map(|owner| owner.partitions.len()).collect();
        sizes.sort_unstable();
        let few = 64 / count;
        assert!(sizes.iter().all(|size| *size == few || *size == few + 1), "{sizes:?}");
    }
    assert_eq!(owners.iter().filter(|owner| owner.partitions.is_empty()).count(), 1);
}

/// Who leaves in order leaves its partitions as it saved them to the others; each partition has a
/// checkpoint of its own.
pub async fn a_leavers_share_moves_on(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let mut owners = Vec::new();
    for _ in 0..3 {
        owners.push(Owner::new(&*consumers, "mail", Sharing::Group).await);
    }
    settle(&*consumers, &mut owners).await;
    let checkpoint = |claimed: &ClaimedPartition| 100 + u64::from(claimed.partition.get());
    let progress = |owner: &Owner, claimed: &ClaimedPartition| {
        owner.save_of(claimed.partition, claimed.fence, checkpoint(claimed))
    };
    let leaver = owners.remove(1);
    let share = leaver.numbers();
    let mut saves: Vec<_> = leaver
        .partitions
        .iter()
        .map(|claimed| Save {
            attempts: vec![(at(checkpoint(claimed) + 1), 2)],
            release: Some(Release::Clean),
            ..progress(&leaver, claimed)
        })
        .collect();
    for owner in &owners {
        saves.extend(owner.partitions.iter().map(|claimed| progress(owner, claimed)));
    }
    save_all(&*consumers, saves).await;
    consumers.leave(leaver.claim.name.clone(), leaver.claim.member).await.expect("it leaves");
    assert!(leaver.keep(&*consumers).await.lost, "who left holds nothing");

    settle(&*consumers, &mut owners).await;
    assert_all_have_one_owner(&owners);
    for claimed in owners.iter().flat_map(|owner| &owner.partitions) {
        let number = claimed.partition.get();
        let checkpoint = checkpoint(claimed);
        assert_eq!(claimed.checkpoint, at(checkpoint));
        let charged = share.contains(&number).then_some((at(checkpoint + 1), 2));
        assert_eq!(claimed.attempts, Vec::from_iter(charged), "partition {number}");
        assert!(!claimed.unclean, "partition {number} was let go in order");
    }
}

/// Who leaves without having let go leaves its partitions as those of one that was cut off.
pub async fn who_leaves_without_a_word_leaves_it_unclean(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let leaver = Owner::new(&*consumers, "mail", Sharing::Group).await;
    let Owner { claim, .. } = &leaver;
    consumers.leave(claim.name.clone(), claim.member).await.expect("it leaves");
    consumers.leave(claim.name.clone(), claim.member).await.expect("twice is once");
    assert_eq!(saved(&*consumers, leaver.save(1)).await, Err(ConsumerError::Fenced));
    let next = Owner::new(&*consumers, "mail", Sharing::Group).await;
    assert_eq!(next.partitions.len(), 64);
    assert!(next.partitions.iter().all(|claimed| claimed.unclean));
}

/// A member that has nothing is told when there is something for it, and one that has too much
/// is told to let go; one that is content is told nothing.
pub async fn members_are_told_when_shares_change(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let mut first = Owner::new(&*consumers, "mail", Sharing::Group).await;
    assert_eq!(first.partitions.len(), 64);
    assert!(!first.keep(&*consumers).await.rebalance);
    let mut second = Owner::new(&*consumers, "mail", Sharing::Group).await;
    assert!(second.existed && second.partitions.is_empty(), "nothing is free yet");
    assert!(!second.keep(&*consumers).await.rebalance, "there is nothing to be had");
    assert!(first.keep(&*consumers).await.rebalance, "it has too much");
    save_all(&*consumers, first.releases(Release::Clean)).await;
    assert!(second.keep(&*consumers).await.rebalance, "there is something to be had");
    second.again(&*consumers).await;
    first.again(&*consumers).await;
    assert_eq!((first.partitions.len(), second.partitions.len()), (32, 32));
    for owner in [&first, &second] {
        assert_eq!(owner.keep(&*consumers).await, crate::Kept::default());
    }
}

/// The fences under which a partition was handed out and saved, as those who did it saw them.
#[derive(Default)]
struct Witness {
    /// The highest fence that somebody was answered, by partition.
    granted: Mutex<HashMap<Partition, Fence>>,
    saves: AtomicU64,
    refusals: AtomicU64,
}

impl Witness {
    fn granted(&self, partition: Partition) -> Option<Fence> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }

    fn grant(&self, claimed: &ClaimedPartition) {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = granted.entry(claimed.partition).or_insert(Fence::new(0));
        assert_ne!(*highest, claimed.fence, "a fence is handed out once");
        *highest = claimed.fence.max(*highest);
    }
}

/// Joins, works for a while, leaves in one way or another, and comes again.
async fn hammer(store: Arc<dyn ConsumerStore>, witness: Arc<Witness>, seed: u64) {
    let mut owner = Owner::new(&*store, "mail", Sharing::Group).await;
    for turn in 0..12_u64 {
        owner.partitions.iter().for_each(|claimed| witness.grant(claimed));
        for claimed in &owner.partitions {
            // Whoever was granted a newer fence before this save begins has to win.
            let newer =
                witness.granted(claimed.partition).is_some_and(|newest| newest > claimed.fence);
            let save = owner.save_of(claimed.partition, claimed.fence, turn);
            match saved(&*store, save).await {
                Ok(()) => {
                    assert!(!newer, "a save went through under an older fence");
                    witness.saves.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    assert_eq!(error, ConsumerError::Fenced);
                    witness.refusals.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let kept = owner.keep(&*store).await;
        match (seed + turn) % 4 {
            0 => {
                let _ = store.save(owner.releases(Release::Clean)).await.expect("answered");
                owner.again(&*store).await;
            }
            1 => {
                let Owner { claim, .. } = &owner;
                store.leave(claim.name.clone(), claim.member).await.expect("it leaves");
                owner = Owner::new(&*store, "mail", Sharing::Group).await;
            }
            // Claims anew while it still holds.
            2 => owner.again(&*store).await,
            _ if kept.rebalance || kept.lost => owner.again(&*store).await,
            _ => owner.partitions.clear(),
        }
    }
    let Owner { claim, .. } = owner;
    store.leave(claim.name, claim.member).await.expect("it leaves");
}

/// Whatever many members do at the same time, a partition is never two members' at once: each
/// grant has a fence of its own, and an older one saves nothing any more.
pub async fn a_partition_has_one_owner_whoever_claims(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let witness = Arc::<Witness>::default();
    let tasks: Vec<_> = (0..6)
        .map(|seed| tokio::spawn(hammer(Arc::clone(&consumers), Arc::clone(&witness), seed)))
        .collect();
    for task in tasks {
        task.await.expect("no member panics");
    }
    assert!(witness.saves.load(Ordering::Relaxed) > 0, "somebody got something done");
    let last = Owner::new(&*consumers, "mail", Sharing::Group).await;
    assert_eq!(last.partitions.len(), 64, "nothing is left behind");
    let seen: PartitionSet = last.partitions.iter().map(|claimed| claimed.partition).collect();
    assert_eq!(seen, PartitionSet::ALL);
    for claimed in &last.partitions {
        assert!(witness.granted(claimed.partition).is_none_or(|fence| fence < claimed.fence));
    }
}
