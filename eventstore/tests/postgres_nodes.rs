//! Several processes on one database: one order for all, each hears of the others' commits, and
//! an append takes effect once wherever it is sent again.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::Executor;
use support::{Database, append, assert_gapless, event, event_with_id, soon, submit, whole_log};
use tidewire_eventstore::{
    AppendError, EventStore, ExpectedRevision, GlobalPosition, LogTail, TailConfig,
    postgres::{ListenMode, PostgresStore},
};

/// A tail that relies on what the store tells it: it looks for itself only once in a long while.
fn tail(store: &Arc<PostgresStore>) -> LogTail {
    let store: Arc<dyn EventStore> = Arc::clone(store) as _;
    LogTail::new(store, GlobalPosition::START, TailConfig::with_head_poll(support::DEADLINE * 10))
}

async fn follow(mut tail: LogTail, count: usize) -> Vec<tidewire_eventstore::RecordedEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(soon("news", tail.next()).await.events.iter().cloned());
    }
    events
}

async fn append_many(store: Arc<PostgresStore>, node: usize) {
    const APPENDERS: usize = 8;
    const EACH: usize = 40;
    let appenders = (0..APPENDERS).map(|appender| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 0..EACH {
                // A stream of one's own, and one that all nodes share.
                let own = format!("own-{node}-{appender}");
                let stream = if n % 2 == 0 { own.as_str() } else { "shared-1" };
                submit(&*store, append(stream, vec![event(n.to_string())])).await.unwrap();
            }
        })
    });
    for appender in appenders.collect::<Vec<_>>() {
        appender.await.unwrap();
    }
}

async fn two_nodes_append_at_once(listen: ListenMode) {
    let database = Database::create().await;
    let mut options = database.options();
    options.listen = listen;
    let one = support::connect(options.clone()).await;
    let two = support::connect(options).await;
    let count = 2 * 8 * 40;
    let followers = [tail(&one), tail(&two)].map(|tail| tokio::spawn(follow(tail, count)));
    tokio::join!(append_many(Arc::clone(&one), 1), append_many(Arc::clone(&two), 2));
    let log = whole_log(&*one).await;
    assert_eq!(log.len(), count);
    for follower in followers {
        let followed = follower.await.unwrap();
        assert_gapless(&followed);
        assert_eq!(followed, log, "what was followed is what was recorded");
    }
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_append_at_once_and_follow_each_other() {
    two_nodes_append_at_once(ListenMode::Listen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_append_at_once_and_follow_each_other_without_listening() {
    two_nodes_append_at_once(ListenMode::PollOnly).await;
}

/// How long another node takes to hear of one append, at best of some.
async fn hears_within(listen: ListenMode, head_poll: Duration) -> Duration {
    let database = Database::create().await;
    let mut options = database.options();
    options.listen = listen;
    options.head_poll = head_poll;
    let (writing, reading) =
        (support::connect(options.clone()).await, support::connect(options).await);
    let mut tail = tail(&reading);
    let mut best = Duration::MAX;
    for n in 0..3_u64 {
        submit(&*writing, append("a-1", vec![event(n.to_string())])).await.unwrap();
        let since = Instant::now();
        let batch = soon("news", tail.next()).await;
        best = best.min(since.elapsed());
        assert_eq!(batch.events.last().unwrap().position.get(), n + 1);
    }
    writing.close().await;
    reading.close().await;
    best
}

#[tokio::test]
async fn a_node_hears_of_a_commit_by_notification() {
    // The regular look comes far too late to help.
    let within = hears_within(ListenMode::Listen, Duration::from_secs(3600)).await;
    assert!(within < Duration::from_secs(1), "{within:?}");
}

#[tokio::test]
async fn a_node_that_does_not_listen_hears_of_a_commit_within_a_second() {
    let options = Database::create().await.options();
    let within = hears_within(ListenMode::PollOnly, options.head_poll).await;
    assert!(within < Duration::from_secs(1), "{within:?}");
}

#[tokio::test]
async fn a_commit_without_a_notification_is_noticed_all_the_same() {
    let database = Database::create().await;
    let store = database.store().await;
    submit(&*store, append("a-1", vec![event("1")])).await.unwrap();
    let mut tail = tail(&store);
    soon("its own commit", tail.next()).await;
    // As if another node had died between its commit and its NOTIFY.
    let mut connection = database.connection().await;
    connection
        .execute(
            "INSERT INTO tidewire.events (position, revision, recorded_at, id, stream, type, data)
             VALUES (2, 0, now(), '00000000-0000-0000-0000-000000000001', 'b-1', 'Counted', '1')",
        )
        .await
        .unwrap();
    let batch = soon("the commit of another", tail.next()).await;
    assert_eq!(batch.events[0].stream.as_str(), "b-1");
    store.close().await;
}

#[tokio::test]
async fn notifications_are_hints_and_never_believed() {
    let database = Database::create().await;
    let store = database.store().await;
    let mut tail = tail(&store);
    let mut connection = database.connection().await;
    for lie in ["1000000", "", "-1", "not a number", "18446744073709551616"] {
        sqlx::query("SELECT pg_notify('tidewire', $1)")
            .bind(lie)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    submit(&*store, append("a-1", vec![event("1")])).await.unwrap();
    let batch = soon("news", tail.next()).await;
    assert_eq!(batch.events[0].position.get(), 1);
    assert_eq!(store.head().await.unwrap().position.get(), 1);
    store.close().await;
}

#[tokio::test]
async fn an_append_sent_again_through_another_node_has_its_first_answer() {
    let database = Database::create().await;
    let (one, two) = (database.store().await, database.store().await);
    let mut request = append("a-1", vec![event_with_id("1"), event_with_id("2")]);
    request.expected = ExpectedRevision::NoStream;
    let first = submit(&*one, request.clone()).await.unwrap();
    submit(&*one, append("a-1", vec![event("3")])).await.unwrap();
    assert_eq!(submit(&*two, request.clone()).await, Ok(first));
    assert_eq!(submit(&*one, request.clone()).await, Ok(first));
    request.events[1] = event_with_id("4");
    let reused = submit(&*two, request).await.unwrap_err();
    assert!(matches!(reused, AppendError::IdReused { .. }), "{reused}");
    assert_eq!(whole_log(&*two).await.len(), 3);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_sent_to_two_nodes_at_once_takes_effect_once() {
    let database = Database::create().await;
    let (one, two) = (database.store().await, database.store().await);
    for n in 0..50_u64 {
        let request = append("a-1", vec![event_with_id(n.to_string())]);
        let (first, second) =
            tokio::join!(submit(&*one, request.clone()), submit(&*two, request.clone()));
        assert_eq!(first.unwrap(), second.unwrap());
    }
    assert_eq!(whole_log(&*one).await.len(), 50);
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn what_a_node_remembers_of_a_stream_is_not_believed_after_another_appended() {
    let database = Database::create().await;
    let (one, two) = (database.store().await, database.store().await);
    for expected in 0..20_u64 {
        let store = if expected % 2 == 0 { &one } else { &two };
        let mut request = append("a-1", vec![event("1")]);
        request.expected = match expected {
            0 => ExpectedRevision::NoStream,
            n => ExpectedRevision::Exact(tidewire_eventstore::Revision::new(n - 1)),
        };
        let appended = submit(&**store, request.clone()).await.unwrap();
        assert_eq!(appended.revision.get(), expected);
        let refused = submit(&**store, request).await.unwrap_err();
        let AppendError::WrongExpectedRevision { actual, .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!(actual, Some(appended.revision));
    }
    one.close().await;
    two.close().await;
}
