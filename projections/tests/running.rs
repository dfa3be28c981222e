//! A projection runs: what is appended is in its documents, whichever node owns it, and one bad
//! event or one bad projection holds up nothing else.

#[path = "support/faulty.rs"]
mod faulty;
mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tidewire_eventstore::{EventStore, GlobalPosition, MemoryStore};
use tidewire_projections::{
    Config, DocumentStore, MemoryDocuments, OnPoison, Policy, Projection, ProjectionState,
    Projections, WaitError, Watched, documents::Wish,
};
use tokio::{runtime::Handle, time::Instant};

use support::{SOON, Sums, add, append, append_all, assert_folded, until};

struct World {
    log: Arc<MemoryStore>,
    documents: MemoryDocuments,
}

impl World {
    fn new() -> Self {
        Self { log: Arc::new(MemoryStore::new()), documents: MemoryDocuments::new() }
    }

    async fn node(
        &self,
        name: &str,
        projection: Arc<dyn Projection>,
        policy: Policy,
    ) -> (Projections, Watched) {
        let log: Arc<dyn EventStore> = self.log.clone();
        let documents: Arc<dyn DocumentStore> = Arc::new(self.documents.clone());
        let projection_name = projection.definition().name.clone();
        let projections = Projections::builder(log, documents, name)
            .projection(projection, policy)
            .config(Config::default())
            .start(&Handle::current())
            .await
            .expect("starts");
        let watched = projections.get(projection_name.as_str()).expect("is there");
        (projections, watched)
    }

    async fn assert_folded(&self, watched: &Watched) {
        let status = watched.status().await.expect("answers").status;
        assert_folded(self.log.as_ref(), &self.documents, &status).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_appended_is_in_the_documents_once_the_wait_is_over() {
    let world = World::new();
    let (projections, watched) = world.node("a", Sums::of("sums"), Policy::default()).await;
    for round in 0..20 {
        let position = add(world.log.as_ref(), round % 3, 5).await;
        let reached = watched.wait(position, SOON).await.expect("gets there");
        assert!(reached.position >= position);
        world.assert_folded(&watched).await;
    }
    let stats = &projections.stats()[0];
    assert_eq!((stats.events_total, stats.owned, stats.claims_total), (20, true, 1));
    projections.close().await;
    let status = world.documents.status(&watched.definition().name).await.expect("answers");
    assert_eq!(status.expect("is there").owner, None);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_what_is_not_for_the_projection_takes_no_longer() {
    let world = World::new();
    let (_projections, watched) = world.node("a", Sums::of("sums"), Policy::default()).await;
    watched.wait(GlobalPosition::START, SOON).await.expect("is there");
    let began_at = Instant::now();
    for _ in 0..50 {
        let position = support::elsewhere(world.log.as_ref()).await;
        watched.wait(position, SOON).await.expect("gets there");
    }
    assert!(began_at.elapsed() < Duration::from_millis(500), "{:?}", began_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_its_time_or_at_once_when_the_projection_has_stopped() {
    let world = World::new();
    let (projections, watched) = world.node("a", Sums::of("sums"), Policy::default()).await;
    let position = add(world.log.as_ref(), 1, 5).await;
    let wait = watched.wait(position.next(), Duration::from_millis(300)).await;
    assert!(matches!(wait, Err(WaitError::Timeout { .. })), "{wait:?}");
    let bad = append(world.log.as_ref(), 1, "Bad", 1).await;
    let wait = watched.wait(bad, SOON).await;
    assert!(matches!(wait, Err(WaitError::Stopped { .. })), "{wait:?}");
    projections.close().await;
    let wait = watched.wait(bad.next(), SOON).await;
    assert!(wait.is_err());
}

#[tokio::test(start_paused = true)]
async fn another_node_takes_over_within_six_seconds_of_a_death() {
    let world = World::new();
    let (first, _) = world.node("a", Sums::of("sums"), Policy::default()).await;
    let (_second, watched) = world.node("b", Sums::of("sums"), Policy::default()).await;
    let position = add(world.log.as_ref(), 1, 5).await;
    watched.wait(position, SOON).await.expect("gets there");
    assert!(!watched.status().await.expect("answers").owned);
    drop(first);
    let died_at = Instant::now();
    let position = add(world.log.as_ref(), 1, 7).await;
    watched.wait(position, SOON).await.expect("gets there");
    assert!(died_at.elapsed() < Duration::from_millis(6200), "{:?}", died_at.elapsed());
    assert!(watched.status().await.expect("answers").owned);
    world.assert_folded(&watched).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_closes_leaves_its_projections_to_the_next_at_once() {
    let world = World::new();
    let (first, _) = world.node("a", Sums::of("sums"), Policy::default()).await;
    let (_second, watched) = world.node("b", Sums::of("sums"), Policy::default()).await;
    first.close().await;
    let closed_at = Instant::now();
    let position = add(world.log.as_ref(), 1, 7).await;
    watched.wait(position, SOON).await.expect("gets there");
    assert!(closed_at.elapsed() < Duration::from_millis(1500), "{:?}", closed_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_stops_its_projection_until_somebody_has_it_skipped() {
    for poison in ["Bad", "Panics"] {
        let world = World::new();
        let (projections, watched) = world.node("a", Sums::of("sums"), Policy::default()).await;
        append_all(world.log.as_ref(), 1, "Added", &[1, 2, 3]).await;
        let bad = append(world.log.as_ref(), 1, poison, 1).await;
        let last = add(world.log.as_ref(), 1, 4).await;
        watched.wait(bad, SOON).await.expect_err("stops");
        let status = watched.status().await.expect("answers");
        assert_eq!(status.state, ProjectionState::Stopped);
        assert_eq!(status.status.active.checkpoint, bad.previous());
        let stopped = status.status.active.stopped.expect("says why");
        assert_eq!(stopped.position, Some(bad));
        assert!(!stopped.reason.is_empty());
        world.assert_folded(&watched).await;
        assert!(projections.stats()[0].stopped.is_some());

        watched.wish(Wish::Resume).await.expect("is taken");
        until("it stops again", || async {
            projections.stats()[0].poison_total == 2
                && watched.status().await.expect("answers").state == ProjectionState::Stopped
        })
        .await;
        watched.wish(Wish::Skip).await.expect("is taken");
        until("it goes on", || async { watched.reached().position >= last }).await;
        let status = watched.status().await.expect("answers");
        assert_eq!((status.state, status.status.active.parked), (ProjectionState::Running, 1));
        world.assert_folded(&watched).await;
    }
}

#[tokio::test(start_paused = true)]
async fn poison_events_are_parked_up_to_a_bound() {
    let world = World::new();
    let policy = Policy { on_poison: OnPoison::Park, ..Policy::default() };
    let mut config = Config::default();
    config.parked_max = 3;
    let documents: Arc<dyn DocumentStore> = Arc::new(world.documents.clone());
    let projections = Projections::builder(world.log.clone(), documents, "a")
        .projection(Sums::of("sums"), policy)
        .projection(Sums::of("others"), policy)
        .config(config)
        .start(&Handle::current())
        .await
        .expect("starts");
    let watched = projections.get("sums").expect("is there");
    for _ in 0..3 {
        add(world.log.as_ref(), 1, 4).await;
        append(world.log.as_ref(), 1, "Bad", 4).await;
    }
    let position = add(world.log.as_ref(), 1, 4).await;
    watched.wait(position, SOON).await.expect("goes on");
    let status = watched.status().await.expect("answers").status;
    assert_eq!(status.active.parked, 3);
    let parked = world
        .documents
        .parked(status.active.generation, GlobalPosition::START, 10)
        .await
        .expect("answers");
    assert_eq!(parked.len(), 3);
    assert!(parked[0].reason.contains("a bad event"), "{parked:?}");
    append(world.log.as_ref(), 1, "Bad", 4).await;
    let position = add(world.log.as_ref(), 1, 4).await;
    watched.wait(position, SOON).await.expect_err("stops");
    world.assert_folded(&watched).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_documents_database_is_away_the_lag_grows_and_then_everything_is_caught_up() {
    let world = World::new();
    let faulty = faulty::Faulty::new(world.documents.clone(), 1, Arc::default(), None);
    let projections = Projections::builder(world.log.clone(), Arc::new(faulty.clone()), "a")
        .projection(Sums::of("sums"), Policy::default())
        .start(&Handle::current())
        .await
        .expect("starts");
    let watched = projections.get("sums").expect("is there");
    let position = add(world.log.as_ref(), 1, 5).await;
    watched.wait(position, SOON).await.expect("gets there");
    until("there is no lag", || async { projections.stats()[0].lag.events == 0 }).await;

    faulty.away.store(true, Ordering::Relaxed);
    for amount in 1..=10 {
        add(world.log.as_ref(), 2, amount).await;
    }
    let last = add(world.log.as_ref(), 3, 1).await;
    watched.wait(last, Duration::from_secs(20)).await.expect_err("it is away");
    assert_eq!(projections.stats()[0].lag.events, 11);
    assert!(!projections.stats()[0].owned, "a lease that cannot be renewed is over");

    faulty.away.store(false, Ordering::Relaxed);
    let back_at = Instant::now();
    watched.wait(last, SOON).await.expect("gets there");
    assert!(back_at.elapsed() < Duration::from_secs(8), "{:?}", back_at.elapsed());
    world.assert_folded(&watched).await;
}

#[tokio::test(start_paused = true)]
async fn the_lag_has_the_age_of_the_first_event_that_waits() {
    let world = World::new();
    let (projections, watched) = world.node("a", Sums::of("sums"), Policy::default()).await;
    let bad = append(world.log.as_ref(), 1, "Bad", 1).await;
    watched.wait(bad, SOON).await.expect_err("stops");
    let status = watched.status().await.expect("answers");
    assert_eq!(status.lag.events, 1);
    until("the look finds it", || async {
        let lag = projections.stats()[0].lag;
        lag.events == 1 && lag.age > Duration::ZERO
    })
    .await;
}
