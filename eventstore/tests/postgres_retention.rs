//! Removing from a log that several processes share: what one removes, the others know.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::Executor;
use support::{Database, append, event, soon, submit};
use tidewire_eventstore::{
    Append, AppendError, Category, ERASED_TYPE, EventRef, EventStore, ExpectedRevision,
    GlobalPosition, LogTail, Payload, Read, Removal, Removed, Revision, StreamName, TailConfig,
    Target,
};

fn stream(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

fn delete(name: &str) -> Removal {
    Removal::Delete { stream: stream(name) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_does_not_go_by_what_another_node_removed() {
    let database = Database::create().await;
    let one = database.store().await;
    let two = database.store().await;
    for (number, (expected, met)) in [
        (ExpectedRevision::NoStream, true),
        (ExpectedRevision::Exists, false),
        (ExpectedRevision::Exact(Revision::new(1)), false),
        (ExpectedRevision::Any, true),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("a-{number}");
        // The one remembers the stream; the head does not move when the other removes it.
        submit(&*one, append(&name, vec![event("0"), event("1")])).await.unwrap();
        assert_eq!(two.remove(delete(&name)).await.unwrap().events, 2);
        let outcome = submit(&*one, Append { expected, ..append(&name, vec![event("2")]) }).await;
        match outcome {
            Ok(appended) => assert_eq!((met, appended.revision.get()), (true, 2), "{expected}"),
            Err(AppendError::WrongExpectedRevision { actual: None, .. }) => assert!(!met),
            Err(error) => panic!("{expected}: {error}"),
        }
    }
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_notice_of_an_erasure_reaches_the_other_node() {
    let database = Database::create().await;
    let one = database.store().await;
    let two = database.store().await;
    submit(&*one, append("a-1", vec![event("\"secret\"")])).await.unwrap();
    // It looks for itself only once in a long while.
    let config = TailConfig::with_head_poll(support::DEADLINE * 10);
    let mut tails = [one.clone() as Arc<dyn EventStore>, two.clone()]
        .map(|store| LogTail::new(store, GlobalPosition::new(1), config.clone()));
    let erase = Removal::Erase(EventRef::Revision(stream("a-1"), Revision::FIRST));
    let removed = two.remove(erase).await.unwrap();
    assert_eq!(removed.erasure.unwrap().position, GlobalPosition::new(2));
    for tail in &mut tails {
        let batch = soon("the notice", tail.next()).await;
        assert_eq!(batch.events[0].event_type.as_str(), ERASED_TYPE);
    }
    one.close().await;
    two.close().await;
}

/// Two nodes append while a third removes, by stream and by category, in many batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removals_beside_appends_leave_no_hole_and_no_revision_twice() {
    const EACH: u64 = 150;
    let database = Database::create().await;
    let nodes = [database.store().await, database.store().await];
    let remover = database.store().await;
    let mut appenders = tokio::task::JoinSet::new();
    for node in &nodes {
        for name in ["a-1", "a-2", "b-1"] {
            let node = node.clone();
            appenders.spawn(async move {
                let mut revisions = Vec::new();
                for number in 0..EACH {
                    let batch = vec![event(number.to_string()), event(number.to_string())];
                    let appended = submit(&*node, append(name, batch)).await.unwrap();
                    revisions.push((appended.revision.get(), appended.position.get()));
                }
                (name, revisions)
            });
        }
    }
    let mut removed = 0;
    let mut all = HashMap::<_, Vec<_>>::new();
    while !appenders.is_empty() {
        let before = Revision::new(removed / 3);
        for removal in [
            Removal::Truncate { stream: stream("b-1"), before },
            Removal::Beyond { category: Category::new("a").unwrap(), bytes: 40 },
            delete("a-2"),
        ] {
            removed += remover.remove(removal).await.unwrap().events;
        }
        while let Some(done) = appenders.try_join_next() {
            let (name, revisions) = done.unwrap();
            all.entry(name).or_default().extend(revisions);
        }
    }
    assert!(removed > EACH, "only {removed} events were removed meanwhile");
    for (name, revisions) in &mut all {
        revisions.sort_unstable();
        let expected = (0..2 * EACH).map(|number| 2 * number + 1);
        assert!(revisions.iter().map(|(revision, _)| *revision).eq(expected), "{name}");
        assert!(revisions.windows(2).all(|pair| pair[0].1 < pair[1].1), "{name} in order");
    }
    let (mut position, mut next) = (0, HashMap::<_, u64>::new());
    loop {
        let after = GlobalPosition::new(position);
        let page = nodes[0].read(Read::after(Target::All, after, 1000)).await.unwrap();
        for event in &page.events {
            position += 1;
            assert_eq!(event.position.get(), position, "a hole or a double");
            if !event.is_removed() {
                let expected = next.entry(event.stream.clone()).or_insert(event.revision.get());
                assert_eq!(event.revision.get(), *expected, "{}", event.stream);
                *expected += 1;
            }
        }
        if !page.more {
            break;
        }
    }
    assert_eq!(position, 3 * 2 * 2 * EACH);
    for store in nodes.into_iter().chain([remover]) {
        store.close().await;
    }
}

/// The rows hold nothing any more of what they carried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_is_in_no_table() {
    let database = Database::create().await;
    let store = database.store().await;
    for name in ["secret-1", "open-1", "open-2"] {
        submit(&*store, append(name, vec![event("\"hidden\""), event("\"hidden\"")]))
            .await
            .unwrap();
    }
    assert_eq!(store.remove(delete("secret-1")).await.unwrap().events, 2);
    for position in 3..=6 {
        let erase = Removal::Erase(EventRef::Position(GlobalPosition::new(position)));
        assert_eq!(store.remove(erase).await.unwrap().events, 1);
    }
    let mut connection = database.connection().await;
    for (table, word) in [("events", "hidden"), ("events", "secret"), ("requests", "hidden")] {
        let sql =
            format!("SELECT count(*) FROM tidewire.{table} AS t WHERE t::text LIKE '%{word}%'");
        let found: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
        assert_eq!(found, 0, "{word} in {table}");
    }
    let page = store.read(Read::after(Target::All, GlobalPosition::START, 4)).await.unwrap();
    let payloads: Vec<_> = page.events.into_iter().map(|event| event.payload).collect();
    let (removed, erased) = (Payload::Removed, Payload::Erased);
    assert_eq!(payloads, [removed.clone(), removed, erased.clone(), erased]);
    store.close().await;
}

/// By age: up to the first event that is young enough, and no further.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_event_behind_a_young_one_waits_for_it() {
    let database = Database::create().await;
    let store = database.store().await;
    submit(&*store, append("a-1", (0..4).map(|n| event(n.to_string())).collect())).await.unwrap();
    let mut connection = database.connection().await;
    // The third was recorded by a node whose clock was behind.
    let age = "UPDATE tidewire.events SET recorded_at = now() - interval '2 hours' \
               WHERE position IN (1, 3)";
    connection.execute(age).await.unwrap();
    let older = |hours: u64| Removal::Older {
        category: Category::new("a").unwrap(),
        than: Duration::from_secs(hours * 3600),
    };
    assert_eq!(store.remove(older(3)).await.unwrap(), Removed::default());
    let removed = store.remove(older(1)).await.unwrap();
    assert_eq!((removed.events, removed.last), (1, Some(GlobalPosition::new(1))));
    store.close().await;
}
