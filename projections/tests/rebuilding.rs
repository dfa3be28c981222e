//! A rebuild fills new documents beside the old ones, which are served and kept up to date until
//! the new ones take their place.

mod support;

use std::sync::Arc;

use tidewire_eventstore::{EventStore, GlobalPosition, MemoryStore};
use tidewire_projections::{
    Config, DocumentStore, FeedNews, MemoryDocuments, Policy, Projection, ProjectionState,
    Projections, Watched, documents::Wish,
};
use tokio::runtime::Handle;

use support::{SOON, Sums, add, append, append_all, assert_folded, stored, until};

async fn node(
    log: &Arc<MemoryStore>,
    documents: &MemoryDocuments,
    projection: Arc<dyn Projection>,
    policy: Policy,
) -> (Projections, Watched) {
    let log: Arc<dyn EventStore> = log.clone();
    let store: Arc<dyn DocumentStore> = Arc::new(documents.clone());
    let mut config = Config::default();
    // So that a rebuild of a small log takes many steps.
    config.batch_events = 10;
    let projections = Projections::builder(log, store, "a")
        .projection(projection, policy)
        .config(config)
        .start(&Handle::current())
        .await
        .expect("starts");
    let watched = projections.get("sums").expect("is there");
    (projections, watched)
}

async fn filled(log: &MemoryStore) -> GlobalPosition {
    let mut last = GlobalPosition::START;
    for round in 0..100 {
        last = append_all(log, round % 7, "Added", &[1, 2, 3, 4, 5]).await;
    }
    last
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_ends_with_the_same_documents_in_another_generation() {
    let (log, documents) = (Arc::new(MemoryStore::new()), MemoryDocuments::new());
    let last = filled(&log).await;
    let (_node, watched) = node(&log, &documents, Sums::of("sums"), Policy::default()).await;
    let before = watched.wait(last, SOON).await.expect("gets there");
    let mut feed = watched.follow();
    watched.wish(Wish::Rebuild).await.expect("is taken");
    until("it is swapped", || async { watched.reached().generation != before.generation }).await;
    let last = add(log.as_ref(), 1, 5).await;
    let after = watched.wait(last, SOON).await.expect("goes on");
    assert_folded(log.as_ref(), &documents, &watched.status().await.expect("answers").status).await;
    let news = feed.recv().await.expect("is told");
    let FeedNews::Swapped(reached) = news else { panic!("told {news:?}") };
    assert_eq!(reached.generation, after.generation);
    assert!(reached.position >= before.position);
    until("the old documents are swept", || async {
        stored_count(&documents, before.generation).await == 0
    })
    .await;
    assert_eq!(watched.status().await.expect("answers").status.wish, None);
}

async fn stored_count(
    documents: &MemoryDocuments,
    generation: tidewire_eventstore::Generation,
) -> usize {
    let keys = (0..7).map(|account| format!("account-{account}"));
    let keys = keys.map(|key| tidewire_eventstore::DocumentKey::new(&key).expect("a key"));
    documents.documents(generation, keys.collect()).await.expect("answers").len()
}

#[tokio::test(start_paused = true)]
async fn the_old_documents_are_kept_up_to_date_while_a_rebuild_runs() {
    let (log, documents) = (Arc::new(MemoryStore::new()), MemoryDocuments::new());
    let last = filled(&log).await;
    let (_node, watched) = node(&log, &documents, Sums::of("sums"), Policy::default()).await;
    let before = watched.wait(last, SOON).await.expect("gets there");
    watched.wish(Wish::Rebuild).await.expect("is taken");
    let mut swapped = false;
    for round in 0..200 {
        let position = add(log.as_ref(), round % 9, 1).await;
        let reached = watched.wait(position, SOON).await.expect("goes on");
        swapped |= reached.generation != before.generation;
        let (_, now) = stored(&documents, reached.generation).await;
        assert!(!now.is_empty());
    }
    until("it is swapped", || async {
        swapped || watched.reached().generation != before.generation
    })
    .await;
    assert_folded(log.as_ref(), &documents, &watched.status().await.expect("answers").status).await;
}

#[tokio::test(start_paused = true)]
async fn documents_of_an_older_version_are_served_until_somebody_has_them_rebuilt() {
    let (log, documents) = (Arc::new(MemoryStore::new()), MemoryDocuments::new());
    let last = filled(&log).await;
    let (old, watched) = node(&log, &documents, Sums::of("sums"), Policy::default()).await;
    watched.wait(last, SOON).await.expect("gets there");
    old.close().await;

    let newer = Sums::of_version("sums", 2);
    let (_node, watched) = node(&log, &documents, newer, Policy::default()).await;
    let status = watched.status().await.expect("answers");
    assert_eq!(status.state, ProjectionState::Outdated);
    assert_eq!((status.status.active.version, status.version), (1, 2));
    watched.wish(Wish::Rebuild).await.expect("is taken");
    let last = add(log.as_ref(), 1, 5).await;
    watched.wait(last, SOON).await.expect("goes on");
    let status = watched.status().await.expect("answers");
    assert_eq!((status.state, status.status.active.version), (ProjectionState::Running, 2));
    assert_folded(log.as_ref(), &documents, &status.status).await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_version_rebuilds_by_itself_when_told_to_and_an_older_one_never() {
    let (log, documents) = (Arc::new(MemoryStore::new()), MemoryDocuments::new());
    let last = filled(&log).await;
    let policy = Policy { rebuild_on_new_version: true, ..Policy::default() };
    let (old, watched) = node(&log, &documents, Sums::of_version("sums", 2), policy).await;
    watched.wait(last, SOON).await.expect("gets there");
    old.close().await;

    let (older, watched) = node(&log, &documents, Sums::of_version("sums", 1), policy).await;
    let last = add(log.as_ref(), 1, 5).await;
    watched.wait(last, SOON / 2).await.expect_err("leaves it to the newer ones");
    let (_newer, watched) = node(&log, &documents, Sums::of_version("sums", 3), policy).await;
    watched.wait(last, SOON).await.expect("goes on");
    let status = watched.status().await.expect("answers").status;
    assert_eq!(status.active.version, 3);
    assert_folded(log.as_ref(), &documents, &status).await;
    older.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_that_meets_poison_stops_alone_and_can_be_given_up() {
    let (log, documents) = (Arc::new(MemoryStore::new()), MemoryDocuments::new());
    let (_node, watched) = node(&log, &documents, Sums::of("sums"), Policy::default()).await;
    filled(&log).await;
    let bad = append(log.as_ref(), 1, "Bad", 1).await;
    watched.wait(bad, SOON).await.expect_err("stops");
    watched.wish(Wish::Skip).await.expect("is taken");
    until("it goes on", || async { watched.reached().position >= bad }).await;
    let before = watched.reached();

    watched.wish(Wish::Rebuild).await.expect("is taken");
    until("the rebuild stops", || async {
        let building = watched.status().await.expect("answers").status.building;
        building.is_some_and(|building| building.stopped.is_some())
    })
    .await;
    let last = add(log.as_ref(), 1, 5).await;
    let reached = watched.wait(last, SOON).await.expect("the old documents go on");
    assert_eq!(reached.generation, before.generation);
    let progress = watched.status().await.expect("answers").progress.expect("is there");
    assert_eq!((progress.position, progress.left), (bad.previous(), None));
    watched.wish(Wish::Cancel).await.expect("is taken");
    until("it is given up", || async {
        watched.status().await.expect("answers").status.building.is_none()
    })
    .await;
    let last = add(log.as_ref(), 1, 5).await;
    watched.wait(last, SOON).await.expect("goes on");
    assert_folded(log.as_ref(), &documents, &watched.status().await.expect("answers").status).await;
}

#[tokio::test(start_paused = true)]
async fn documents_of_another_life_of_the_log_are_written_no_further_until_they_are_rebuilt() {
    let (log, documents) = (Arc::new(MemoryStore::new()), MemoryDocuments::new());
    let last = filled(&log).await;
    let (old, watched) = node(&log, &documents, Sums::of("sums"), Policy::default()).await;
    watched.wait(last, SOON).await.expect("gets there");
    old.close().await;

    let other = Arc::new(MemoryStore::new());
    let last = add(other.as_ref(), 1, 5).await;
    let (_node, watched) = node(&other, &documents, Sums::of("sums"), Policy::default()).await;
    until("it says so", || async {
        add(other.as_ref(), 1, 5).await;
        watched.status().await.expect("answers").state == ProjectionState::Stopped
    })
    .await;
    let stopped = watched.status().await.expect("answers").status.active.stopped;
    assert_eq!(stopped.expect("is there").position, None);
    watched.wish(Wish::Rebuild).await.expect("is taken");
    until("it goes on", || async {
        watched.status().await.is_ok_and(|status| status.state == ProjectionState::Running)
    })
    .await;
    watched.wait(last, SOON).await.expect("goes on");
    assert_folded(other.as_ref(), &documents, &watched.status().await.expect("answers").status)
        .await;
}
