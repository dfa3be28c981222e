//! Whoever follows a projection hears of each change, on the node that runs it and on others; and
//! nobody is asked for changes while nobody wants to hear of them.

#[path = "support/faulty.rs"]
mod faulty;
mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tidewire_eventstore::{EventStore, GlobalPosition, MemoryStore};
use tidewire_projections::{
    Before, ChangeBatch, Config, DocumentStore, FeedNews, MemoryDocuments, Policy, Projections,
    Watched,
    documents::{PAGE_MAX, Wish},
};
use tokio::{
    runtime::Handle,
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep, timeout},
};

use faulty::Faulty;
use support::{SOON, Sums, add, append_all, elsewhere, until};

struct World {
    log: Arc<MemoryStore>,
    documents: MemoryDocuments,
}

impl World {
    fn new() -> Self {
        Self { log: Arc::new(MemoryStore::new()), documents: MemoryDocuments::new() }
    }

    async fn node(&self, config: Config) -> (Projections, Watched, Faulty) {
        let faulty = Faulty::new(self.documents.clone(), 1, Arc::default(), None);
        let documents: Arc<dyn DocumentStore> = Arc::new(faulty.clone());
        let log: Arc<dyn EventStore> = self.log.clone();
        let projections = Projections::builder(log, documents, "node")
            .projection(Sums::of("sums"), Policy::default())
            .config(config)
            .start(&Handle::current())
            .await
            .expect("starts");
        let watched = projections.get("sums").expect("is there");
        (projections, watched, faulty)
    }
}

async fn batch(feed: &mut Receiver<FeedNews>) -> Arc<ChangeBatch> {
    match timeout(SOON, feed.recv()).await.expect("in time").expect("is told") {
        FeedNews::Batch(batch) => batch,
        FeedNews::Swapped(reached) => panic!("swapped to {reached:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_owner_tells_what_documents_were_and_what_they_are() {
    let world = World::new();
    let (_node, watched, faulty) = world.node(Config::default()).await;
    until("it is owned", || async { watched.status().await.expect("answers").owned }).await;
    let mut feed = watched.follow();
    let mut told = watched.reached().position;
    for (amount, before, after) in [
        (5, None, Some((5, 1))),
        (7, Some((5, 1)), Some((12, 2))),
        (0, Some((12, 2)), None),
        (1, None, Some((1, 1))),
    ] {
        let position = add(world.log.as_ref(), 1, amount).await;
        let batch = batch(&mut feed).await;
        assert_eq!((batch.after, batch.position), (told, position));
        told = batch.position;
        let [change] = batch.changes.as_slice() else { panic!("{batch:?}") };
        let sums =
            |document: &serde_json::Value| (document["sum"].as_i64(), document["count"].as_i64());
        let given = |(sum, count)| (Some(sum), Some(count));
        match &change.before {
            Before::Unknown => panic!("the owner knows"),
            Before::Absent => assert_eq!(before, None),
            Before::Document(content) => {
                assert_eq!(before.map(given), Some(sums(content.value())));
            }
        }
        assert_eq!(after.map(given), change.after.as_ref().map(|after| sums(after.value())));
    }
    assert_eq!(faulty.changes_asked.load(Ordering::Relaxed), 0, "the owner asks nobody");
}

#[tokio::test(start_paused = true)]
async fn another_node_hears_within_a_quarter_of_a_second_and_asks_only_while_something_is_due() {
    let world = World::new();
    let (_owner, owner, _) = world.node(Config::default()).await;
    owner.wait(GlobalPosition::START, SOON).await.expect("is there");
    until("it is owned", || async { owner.status().await.expect("answers").owned }).await;
    let (_other, watched, faulty) = world.node(Config::default()).await;
    add(world.log.as_ref(), 1, 1).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(faulty.changes_asked.load(Ordering::Relaxed), 0, "nobody follows");

    let mut feed = watched.follow();
    let mut told = watched.reached().position;
    for amount in 1..20 {
        let position = add(world.log.as_ref(), 1, amount).await;
        let began_at = Instant::now();
        while told < position {
            let batch = batch(&mut feed).await;
            assert_eq!(batch.after, told);
            told = batch.position;
        }
        assert!(began_at.elapsed() < Duration::from_millis(260), "{:?}", began_at.elapsed());
    }
    let asked = faulty.changes_asked.load(Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(faulty.changes_asked.load(Ordering::Relaxed), asked, "the log does not move");

    drop(feed);
    for _ in 0..20 {
        elsewhere(world.log.as_ref()).await;
        sleep(Duration::from_millis(300)).await;
    }
    let asked_unwatched = faulty.changes_asked.load(Ordering::Relaxed) - asked;
    assert_eq!(asked_unwatched, 0, "nobody follows any more");
}

#[tokio::test(start_paused = true)]
async fn a_wait_on_another_node_ends_soon_after_the_owner_is_there() {
    let world = World::new();
    let (_owner, owner, _) = world.node(Config::default()).await;
    until("it is owned", || async { owner.status().await.expect("answers").owned }).await;
    let (_other, watched, _) = world.node(Config::default()).await;
    for amount in 1..20 {
        let position = add(world.log.as_ref(), 1, amount).await;
        let began_at = Instant::now();
        watched.wait(position, SOON).await.expect("gets there");
        assert!(began_at.elapsed() < Duration::from_millis(50), "{:?}", began_at.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn every_node_is_told_of_a_swap() {
    let world = World::new();
    let (_owner, owner, _) = world.node(Config::default()).await;
    until("it is owned", || async { owner.status().await.expect("answers").owned }).await;
    let (_other, other, _) = world.node(Config::default()).await;
    let last = add(world.log.as_ref(), 1, 1).await;
    other.wait(last, SOON).await.expect("gets there");
    let before = other.reached().generation;
    let mut feeds = [owner.follow(), other.follow()];
    other.wish(Wish::Rebuild).await.expect("is taken");
    for feed in &mut feeds {
        let news = timeout(SOON, feed.recv()).await.expect("in time").expect("is told");
        let FeedNews::Swapped(reached) = news else { panic!("{news:?}") };
        assert_ne!(reached.generation, before);
        assert!(reached.position >= last);
    }
    // And what comes next goes on from there, on both.
    let last = add(world.log.as_ref(), 1, 1).await;
    for feed in &mut feeds {
        while batch(feed).await.position < last {}
    }
}

#[tokio::test(start_paused = true)]
async fn who_falls_behind_is_told_so_and_finds_the_rest_in_the_store() {
    let world = World::new();
    let mut config = Config::default();
    config.feed_batches = 4;
    let (_node, watched, _) = world.node(config).await;
    let mut feed = watched.follow();
    let mut last = GlobalPosition::START;
    for round in 0..10 {
        last = append_all(world.log.as_ref(), round, "Added", &[1, 2, 3]).await;
        watched.wait(last, SOON).await.expect("gets there");
    }
    let told = timeout(SOON, feed.recv()).await.expect("in time");
    assert!(matches!(told, Err(RecvError::Lagged(_))), "{told:?}");
    let read = tidewire_projections::documents::ChangesRead {
        generation: watched.reached().generation,
        after: GlobalPosition::START,
        limit: 100,
    };
    let page = watched.documents().changes(read).await.expect("answers");
    assert_eq!((page.changes.len(), page.through), (10, last));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_to_hold_is_told_as_a_hole() {
    let world = World::new();
    let mut config = Config::default();
    config.feed_bytes = 10;
    let (_node, watched, _) = world.node(config).await;
    until("it is owned", || async { watched.status().await.expect("answers").owned }).await;
    let mut feed = watched.follow();
    let last = add(world.log.as_ref(), 1, 1).await;
    let batch = batch(&mut feed).await;
    assert!(batch.changes.is_empty());
    assert_eq!((batch.after, batch.position), (last, last));
}

#[tokio::test(start_paused = true)]
async fn another_node_is_never_told_a_part_of_what_changed() {
    let world = World::new();
    let (_owner, owner, _) = world.node(Config::default()).await;
    until("it is owned", || async { owner.status().await.expect("answers").owned }).await;
    let (_other, other, _) = world.node(Config::default()).await;
    let mut feed = other.follow();
    let mut last = GlobalPosition::START;
    let documents = PAGE_MAX as u64 + 200;
    for stream in 0..documents {
        last = append_all(world.log.as_ref(), stream, "Added", &[1]).await;
    }
    let mut holes = 0;
    loop {
        let batch = batch(&mut feed).await;
        if batch.changes.is_empty() && batch.after == batch.position {
            holes += 1;
        }
        // Here each event changes a document of its own, so a whole batch has one for each.
        let whole = batch.position.distance_from(batch.after) == batch.changes.len() as u64;
        assert!(whole, "{:?} to {:?}: {}", batch.after, batch.position, batch.changes.len());
        if batch.position == last {
            break;
        }
    }
    assert!(holes > 0, "so much at once that it did not fit a page");
}
