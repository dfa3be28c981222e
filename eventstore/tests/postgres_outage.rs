//! The database goes away and comes back: appends fail as unavailable meanwhile, readers and
//! followers go on by themselves afterwards, and nothing is lost or doubled.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use support::{
    Database, append, assert_gapless, cluster::Cluster, event, event_with_id, eventually, soon,
    submit, whole_log,
};
use tidewire_eventstore::{
    AppendError, EventStore, GlobalPosition, LogTail, ReadError, TailConfig, Target,
    postgres::{PostgresOptions, PostgresStore},
};

fn impatient(mut options: PostgresOptions) -> PostgresOptions {
    options.limits.away_wait = Duration::from_millis(200);
    options.connect_timeout = Duration::from_secs(1);
    options
}

async fn is_unavailable(store: &PostgresStore) -> bool {
    let refused = soon("an answer", submit(store, append("away-1", vec![event("1")]))).await;
    refused.is_err_and(|error| error == AppendError::Unavailable && error.retryable())
}

async fn is_available(store: &PostgresStore) -> bool {
    soon("an answer", submit(store, append("back-1", vec![event("1")]))).await.is_ok()
}

#[tokio::test]
async fn appends_fail_as_unavailable_while_the_database_is_away_and_work_afterwards() {
    let database = Database::create().await;
    let store = support::connect(impatient(database.options())).await;
    submit(&*store, append("a-1", vec![event("1")])).await.unwrap();
    database.shut().await;
    eventually("appends are unavailable", || is_unavailable(&store)).await;
    let read = tidewire_eventstore::Read::after(Target::All, GlobalPosition::START, 10);
    assert_eq!(soon("a refusal", store.read(read)).await, Err(ReadError::Unavailable));
    assert_eq!(soon("a refusal", store.head()).await.unwrap_err(), ReadError::Unavailable);
    database.open().await;
    eventually("appends work", || is_available(&store)).await;
    let log = whole_log(&*store).await;
    assert!(log.iter().all(|event| event.stream.as_str() != "away-1"), "unavailable: unrecorded");
    store.close().await;
}

#[tokio::test]
async fn a_session_ended_by_an_operator_costs_nobody_anything() {
    let database = Database::create().await;
    let store = database.store().await;
    for n in 0..5_u64 {
        let appended = submit(&*store, append("a-1", vec![event("1")])).await.unwrap();
        assert_eq!(appended.revision.get(), n);
        assert_eq!(whole_log(&*store).await.len() as u64, n + 1);
        database.throw_out().await;
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_and_doubles_nothing() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let database = Database::create_on(&cluster.url()).await;
    let store = support::connect(impatient(database.options())).await;
    let reading: Arc<dyn EventStore> = support::connect(impatient(database.options())).await;

    let stop = Arc::new(AtomicBool::new(false));
    let appenders: Vec<_> = (0..4)
        .map(|appender| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut done = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    // Sent again until it is answered, as a client would: it takes effect once.
                    let request = append(&format!("a-{appender}"), vec![event_with_id("1")]);
                    let appended = loop {
                        match submit(&*store, request.clone()).await {
                            Ok(appended) => break appended,
                            Err(error) => assert!(error.retryable(), "{error}"),
                        }
                    };
                    done.push((appended.position, request.events[0].id));
                }
                done
            })
        })
        .collect();
    let config = TailConfig::with_head_poll(Duration::from_millis(200));
    let mut tail = LogTail::new(Arc::clone(&reading), GlobalPosition::START, config);
    let mut followed = Vec::new();

    let cluster = Arc::new(cluster);
    for _ in 0..2 {
        let enough = followed.len() + 50;
        while followed.len() < enough {
            followed.extend(soon("news", tail.next()).await.events.iter().cloned());
        }
        let killed = Arc::clone(&cluster);
        tokio::task::spawn_blocking(move || {
            killed.kill();
            killed.resume();
        })
        .await
        .unwrap();
    }
    let enough = followed.len() + 50;
    while followed.len() < enough {
        followed.extend(soon("news", tail.next()).await.events.iter().cloned());
    }
    stop.store(true, Ordering::Relaxed);
    let mut answered = Vec::new();
    for appender in appenders {
        answered.extend(soon("the last answers", appender).await.unwrap());
    }
    let log = whole_log(&*store).await;
    assert_eq!(log.len(), answered.len(), "every append took effect once");
    for (position, id) in answered {
        let event = &log[position.get() as usize - 1];
        assert_eq!(Some(event.id), id, "what was answered is where it was said to be");
    }
    while followed.len() < log.len() {
        followed.extend(soon("news", tail.next()).await.events.iter().cloned());
    }
    assert_gapless(&followed);
    store.close().await;
    reading.close().await;
    drop(database);
}

#[tokio::test]
async fn a_log_met_on_another_timeline_begins_a_new_epoch() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let database = Database::create_on(&cluster.url()).await;
    let store = support::connect(impatient(database.options())).await;
    submit(&*store, append("a-1", vec![event("1"), event("2")])).await.unwrap();
    let before = store.head().await.unwrap().epochs;

    let cluster = Arc::new(cluster);
    let restarted = Arc::clone(&cluster);
    tokio::task::spawn_blocking(move || {
        restarted.kill();
        restarted.resume();
    })
    .await
    .unwrap();
    eventually("appends work", || is_available(&store)).await;
    let after = store.head().await.unwrap();
    assert_eq!(after.epochs, before, "a restart is not another life");

    let promoted = Arc::clone(&cluster);
    tokio::task::spawn_blocking(move || {
        promoted.kill();
        promoted.resume_promoted();
    })
    .await
    .unwrap();
    eventually("appends work", || is_available(&store)).await;
    let epochs = store.head().await.unwrap().epochs;
    assert_eq!(epochs.len(), 2, "a promotion is");
    assert_eq!(epochs[0], before[0]);
    assert!(epochs[1].first_position > GlobalPosition::new(2));
    store.close().await;
    drop(database);
}
