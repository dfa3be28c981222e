//! What time does: a lease that is not renewed runs out. These cases run with a short lease.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Owner, at, save_all, saved};
use crate::{ConsumerError, ConsumerStore, EventStore, Sharing};

/// How long a lease lasts in these cases.
pub(in crate::conformance) const LEASE: Duration = Duration::from_millis(700);

/// Claims until everything is handed over.
async fn claim_all(store: &dyn ConsumerStore, owner: &mut Owner) {
    while owner.partitions.len() < 64 {
        tokio::time::sleep(LEASE / 20).await;
        owner.again(store).await;
    }
}

/// The partitions of a member that is heard of no more go over to others, as those of one that
/// was cut off; it is refused from then on, and told so.
pub async fn what_is_not_kept_is_lost(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let since = Instant::now();
    let silent = Owner::new(&*consumers, "mail", Sharing::Group).await;
    let number = silent.first().partition;
    save_all(&*consumers, vec![silent.save(5)]).await;
    let mut other = Owner::new(&*consumers, "mail", Sharing::Group).await;
    assert!(other.partitions.is_empty() || since.elapsed() >= LEASE);
    claim_all(&*consumers, &mut other).await;
    assert!(since.elapsed() >= LEASE, "not before the lease is over");
    let claimed = other.partitions.iter().find(|claimed| claimed.partition == number);
    let claimed = claimed.expect("all partitions are its own");
    assert!(claimed.unclean && claimed.checkpoint == at(5), "{claimed:?}");
    assert_eq!(saved(&*consumers, silent.save(9)).await, Err(ConsumerError::Fenced));
    assert!(silent.keep(&*consumers).await.lost);
    saved(&*consumers, other.save(6)).await.expect("the holder saves");
}

/// Who keeps what it has, keeps it for as long as it likes, and so does one that was late as long
/// as nobody else came.
pub async fn what_is_kept_stays(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let since = Instant::now();
    let keeper = Owner::new(&*consumers, "mail", Sharing::Group).await;
    let mut other = Owner::new(&*consumers, "mail", Sharing::Group).await;
    while since.elapsed() < LEASE * 3 {
        let late = Instant::now();
        let kept = keeper.keep(&*consumers).await;
        // A machine that stood still for a whole lease proves nothing.
        if late.elapsed() < LEASE / 2 {
            assert!(!kept.lost && kept.rebalance, "{kept:?}");
        }
        other.again(&*consumers).await;
        if late.elapsed() < LEASE / 2 {
            assert!(other.partitions.is_empty(), "{other:?}");
        }
        tokio::time::sleep(LEASE / 10).await;
    }

    let alone = Owner::new(&*consumers, "alone", Sharing::Group).await;
    let since = Instant::now();
    while since.elapsed() < LEASE * 2 {
        tokio::time::sleep(LEASE / 10).await;
    }
    assert!(!alone.keep(&*consumers).await.lost, "nobody else came");
    saved(&*consumers, alone.save(3)).await.expect("the holder saves");
    assert!(alone.keep(&*consumers).await == crate::Kept::default());
}

/// Whoever is heard of no more is not among a consumer's holders.
pub async fn only_those_who_keep_are_holders(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let owner = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    let name = owner.claim.name.clone();
    let holders = || async {
        let info = consumers.consumer(name.clone()).await.expect("it is there");
        info.holders
    };
    let first = holders().await;
    assert!(first.iter().all(|holder| holder.member == owner.claim.member));
    while !holders().await.is_empty() {
        tokio::time::sleep(LEASE / 20).await;
    }
    assert!(!owner.keep(&*consumers).await.lost, "an exclusive consumer waits for its holder");
    let again = holders().await;
    assert_eq!((again.len(), again[0].partitions.len()), (1, 1));
}
