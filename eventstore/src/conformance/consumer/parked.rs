//! Parked events: listed, delivered again, dropped.

use std::sync::Arc;

use super::{Owner, at, name, parking, save_all, saved};
use crate::{
    ConsumerError, ConsumerStore, EventStore, GlobalPosition, ParkedInfo, Positions,
    REPLAYS_TOLD_MAX, Release, Save, Sharing, Timestamp,
    conformance::{counted, record, to},
};

/// A consumer with events 1 to `count` parked, each with its position as attempts.
async fn with_parked(store: &dyn ConsumerStore, consumer: &str, count: u64) -> Owner {
    let owner = Owner::new(store, consumer, Sharing::Exclusive).await;
    let parked = (1..=count).map(|position| parking(position, position as u32, "spent")).collect();
    saved(store, Save { parked, ..owner.save(count) }).await.expect("the holder saves");
    owner
}

async fn listed(store: &dyn ConsumerStore, consumer: &str) -> Vec<ParkedInfo> {
    let mut listed = Vec::new();
    loop {
        let after = listed.last().map_or(GlobalPosition::START, |last: &ParkedInfo| last.position);
        let page = store.parked(name(consumer), after, 7).await.expect("a page");
        assert!(page.parked.len() == 7 || !page.more, "a page that was cut is full");
        listed.extend(page.parked);
        if !page.more {
            return listed;
        }
    }
}

async fn positions(store: &dyn ConsumerStore, consumer: &str) -> Vec<u64> {
    listed(store, consumer).await.iter().map(|parked| parked.position.get()).collect()
}

fn these(positions: impl IntoIterator<Item = u64>) -> Positions {
    Positions::Listed(positions.into_iter().map(at).collect())
}

/// Parked events are listed in order, page by page, with what the log says about them.
pub async fn parked_events_are_listed_in_pages(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let before = Timestamp::now();
    record(&*store, to("order-1", vec![counted(1); 20])).await;
    with_parked(&*consumers, "other", 2).await;
    with_parked(&*consumers, "mail", 22).await;
    let all = listed(&*consumers, "mail").await;
    assert_eq!(all.len(), 22);
    for (parked, position) in all.iter().zip(1..) {
        assert_eq!((parked.position, parked.attempts), (at(position), position as u32));
        assert_eq!((parked.reason.as_str(), parked.replaying), ("spent", false));
        let recorded = position <= 20;
        assert_eq!(parked.stream.as_ref().map(AsRef::as_ref), recorded.then_some("order-1"));
        assert_eq!(parked.event_type.as_ref().map(AsRef::as_ref), recorded.then_some("Counted"));
        let about = before.as_micros() - 60_000_000..=Timestamp::now().as_micros() + 60_000_000;
        assert!(about.contains(&parked.parked_at.as_micros()), "parked about now");
    }
    let none = consumers.parked(name("mail"), at(22), 1).await.expect("a page");
    assert!(none.parked.is_empty() && !none.more);
    for (limit, count) in [(0, 1), (1, 1), (usize::MAX, 22)] {
        let page = consumers.parked(name("mail"), at(0), limit).await.expect("a page");
        assert_eq!((page.parked.len(), page.more), (count, count < 22));
    }
    let unknown = ConsumerError::Unknown { name: name("post") };
    assert_eq!(consumers.parked(name("post"), at(0), 1).await, Err(unknown));
}

/// The holder is told of a replay once; when it is settled the event is parked no longer, and
/// when it fails again it stays parked with what was tried.
pub async fn a_replay_is_told_once_and_settled(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let owner = with_parked(&*consumers, "mail", 5).await;
    let count = consumers.replay(name("mail"), these([4, 2, 4])).await.expect("they are parked");
    assert_eq!(count, 2);
    let replaying = |parked: Vec<ParkedInfo>| -> Vec<_> {
        let replaying = parked.into_iter().filter(|parked| parked.replaying);
        replaying.map(|parked| parked.position.get()).collect()
    };
    assert_eq!(replaying(listed(&*consumers, "mail").await), [2, 4]);
    let partition = owner.first().partition;
    let kept = owner.keep(&*consumers).await;
    assert_eq!(kept.replays, [(partition, at(2), 2), (partition, at(4), 4)]);
    assert!(owner.keep(&*consumers).await.replays.is_empty(), "told once");
    consumers.replay(name("mail"), these([4])).await.expect("it is parked");
    assert!(owner.keep(&*consumers).await.replays.is_empty(), "it is under way already");

    let save = Save {
        replayed: vec![at(2), at(4)],
        parked: vec![parking(4, 7, "spent again")],
        ..owner.save(5)
    };
    saved(&*consumers, save).await.expect("the holder saves");
    let all = listed(&*consumers, "mail").await;
    assert_eq!(positions(&*consumers, "mail").await, [1, 3, 4, 5]);
    assert_eq!((all[2].attempts, all[2].reason.as_str()), (7, "spent again"));
    assert!(replaying(all).is_empty());
    assert_eq!(consumers.replay(name("mail"), these([4])).await, Ok(1));
    assert_eq!(owner.keep(&*consumers).await.replays, [(partition, at(4), 7)], "asked anew");
}

/// Replays that are not settled are told to whoever claims next, and then not again.
pub async fn replays_outlive_their_holder(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let owner = with_parked(&*consumers, "mail", 4).await;
    consumers.replay(name("mail"), these([1, 3])).await.expect("they are parked");
    assert_eq!(owner.keep(&*consumers).await.replays.len(), 2);
    save_all(&*consumers, owner.releases(Release::Clean)).await;
    consumers.replay(name("mail"), these([2])).await.expect("it is parked");
    let next = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    assert_eq!(next.first().replays, [(at(1), 1), (at(2), 2), (at(3), 3)]);
    assert!(next.keep(&*consumers).await.replays.is_empty(), "the claim was told");
    assert!(owner.keep(&*consumers).await.replays.is_empty(), "it is no longer the holder's");
}

/// Each owner of a group is told of the replays of its own partitions.
pub async fn replays_go_to_the_owner_of_their_partition(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let mut owner = Owner::new(&*consumers, "mail", Sharing::Group).await;
    let saves = owner.partitions.iter().map(|claimed| {
        let position = 1000 + u64::from(claimed.partition.get());
        let parked = vec![parking(position, 3, "spent")];
        let release = (claimed.partition.get() >= 40).then_some(Release::Clean);
        Save { parked, release, ..owner.save_of(claimed.partition, claimed.fence, position) }
    });
    save_all(&*consumers, saves.collect()).await;
    owner.partitions.truncate(40);
    assert_eq!(consumers.replay(name("mail"), Positions::All).await, Ok(64));
    let other = Owner::new(&*consumers, "mail", Sharing::Group).await;
    assert_eq!(other.partitions.len(), 24);
    for claimed in &other.partitions {
        let position = 1000 + u64::from(claimed.partition.get());
        assert_eq!(claimed.replays, [(at(position), 3)]);
    }
    let told = owner.keep(&*consumers).await.replays;
    assert_eq!(told.len(), 40);
    for (partition, position, _) in told {
        assert_eq!(position, at(1000 + u64::from(partition.get())));
        assert!(partition.get() < 40);
    }
}

/// A flood of replays is told as fast as it is settled.
pub async fn replays_are_told_as_they_are_settled(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let max = REPLAYS_TOLD_MAX as u64;
    let owner = with_parked(&*consumers, "mail", max + 10).await;
    assert_eq!(consumers.replay(name("mail"), Positions::All).await, Ok(max + 10));
    let told = owner.keep(&*consumers).await.replays;
    assert_eq!(told.len(), REPLAYS_TOLD_MAX);
    assert!(owner.keep(&*consumers).await.replays.is_empty(), "that is enough for now");
    let replayed = told.iter().take(4).map(|(_, position, _)| *position).collect();
    saved(&*consumers, Save { replayed, ..owner.save(max) }).await.expect("the holder saves");
    let more = owner.keep(&*consumers).await.replays;
    assert_eq!(
        more.iter().map(|(_, at, _)| at.get()).collect::<Vec<_>>(),
        Vec::from_iter(max + 1..max + 5)
    );
    let next = Owner::new(&*consumers, "mail", Sharing::Exclusive).await;
    assert_eq!(next.first().replays.len(), REPLAYS_TOLD_MAX);
}

/// A replay is told again where the answer that told of it was lost, at whatever moment.
pub async fn what_a_lost_answer_told_is_told_again(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let owner = with_parked(&*consumers, "mail", 40).await;
    for step in 1..=40_u64 {
        consumers.replay(name("mail"), these([step])).await.expect("it is parked");
        let task = tokio::spawn({
            let (consumers, holding) = (Arc::clone(&consumers), owner.holding());
            async move { consumers.keep(vec![holding]).await }
        });
        for _ in 0..step % 7 {
            tokio::task::yield_now().await;
        }
        if step % 4 != 0 {
            tokio::time::sleep(std::time::Duration::from_micros(step * 60)).await;
        }
        task.abort();
        let mut told = match task.await {
            Ok(kept) => kept.expect("holdings are kept").remove(0).replays,
            Err(_) => Vec::new(),
        };
        // What is changed by the statement that was cut short is told when that has ended.
        while !told.iter().any(|(_, position, _)| *position == at(step)) {
            told.extend(owner.keep(&*consumers).await.replays);
        }
    }
}

/// What is dropped is gone, also when it is being replayed; the count follows.
pub async fn dropped_events_are_gone(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let owner = with_parked(&*consumers, "mail", 6).await;
    consumers.replay(name("mail"), these([2, 3])).await.expect("they are parked");
    assert_eq!(owner.keep(&*consumers).await.replays.len(), 2);
    assert_eq!(consumers.drop_parked(name("mail"), these([2, 5])).await, Ok(2));
    assert_eq!(positions(&*consumers, "mail").await, [1, 3, 4, 6]);
    let late = Save { replayed: vec![at(2), at(3)], ..owner.save(6) };
    saved(&*consumers, late).await.expect("settling what was dropped is no error");
    assert_eq!(positions(&*consumers, "mail").await, [1, 4, 6]);
    let info = consumers.consumer(name("mail")).await.expect("it is there");
    assert_eq!(info.parked, 3);
    assert_eq!(consumers.drop_parked(name("mail"), Positions::All).await, Ok(3));
    assert_eq!(consumers.drop_parked(name("mail"), Positions::All).await, Ok(0));
    let info = consumers.consumer(name("mail")).await.expect("it is there");
    assert_eq!(info.parked, 0);
}

/// Where one of the listed events is not parked, nothing happens to any.
pub async fn all_that_is_listed_has_to_be_parked(store: Arc<dyn EventStore>) {
    let consumers = store.consumers();
    let owner = with_parked(&*consumers, "mail", 3).await;
    let missing = ConsumerError::NotParked { positions: vec![at(4), at(9)] };
    assert_eq!((missing.code(), missing.retryable()), ("not_parked", false));
    let mixed = || these([9, 2, 4, 1]);
    assert_eq!(consumers.replay(name("mail"), mixed()).await, Err(missing.clone()));
    assert_eq!(consumers.drop_parked(name("mail"), mixed()).await, Err(missing));
    assert!(owner.keep(&*consumers).await.replays.is_empty());
    assert_eq!(positions(&*consumers, "mail").await, [1, 2, 3]);
    assert_eq!(consumers.replay(name("mail"), these([])).await, Ok(0));
    for unknown in [
        consumers.replay(name("post"), Positions::All).await,
        consumers.drop_parked(name("post"), these([1])).await,
    ] {
        assert_eq!(unknown, Err(ConsumerError::Unknown { name: name("post") }));
    }
}
