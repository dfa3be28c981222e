//! The SQLite store when the database does not play along: it refuses rows, or another process
//! holds the write lock.

#![cfg(feature = "sqlite")]

use std::{path::Path, time::Duration};

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tidewire_eventstore::{
    Append, AppendError, EventStore, EventType, ExpectedRevision, GlobalPosition, NewEvent, Read,
    SqliteOptions, SqliteStore, StreamName, Target,
};

fn append(stream: &str, event_type: &str) -> Append {
    Append {
        stream: StreamName::new(stream).expect("a good name"),
        expected: ExpectedRevision::Any,
        events: vec![NewEvent::json(EventType::new(event_type).expect("a good name"), "1")],
    }
}

async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    SqliteConnection::connect_with(&options).await.expect("connects")
}

#[tokio::test]
async fn rows_that_the_database_refuses_fail_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    let store = SqliteStore::open(&path, SqliteOptions::serve()).await.expect("opens");
    sqlx::raw_sql(
        "CREATE TRIGGER no_poison BEFORE INSERT ON events WHEN NEW.type = 'Poison' \
         BEGIN SELECT raise(ABORT, 'poison'); END",
    )
    .execute(&mut connect(&path).await)
    .await
    .expect("a trigger");
    let types: Vec<_> = (0..40).map(|at| if at % 13 == 5 { "Poison" } else { "Good" }).collect();
    let pending: Vec<_> = types
        .iter()
        .map(|event_type| store.append(append("a-1", event_type)).expect("room in the queue"))
        .collect();
    let mut position = 0;
    for (event_type, pending) in types.iter().zip(pending) {
        match pending.await {
            Ok(appended) => {
                position += 1;
                assert_eq!((*event_type, appended.position.get()), ("Good", position));
            }
            Err(error) => {
                assert_eq!((*event_type, error.code()), ("Poison", "refused"));
                assert!(!error.retryable());
            }
        }
    }
    assert_eq!(position, 37);
    store.close().await;
}

#[tokio::test]
async fn a_write_lock_held_by_another_delays_or_fails_an_append_and_records_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    let mut options = SqliteOptions::serve();
    options.busy_timeout = Duration::from_millis(20);
    options.limits.away_wait = Duration::from_millis(1500);
    let store = SqliteStore::open(&path, options).await.expect("opens");
    let mut other = connect(&path).await;

    let held = other.begin_with("BEGIN IMMEDIATE").await.expect("the lock");
    let refused = store.append(append("a-1", "T")).expect("room in the queue").await;
    assert_eq!(refused, Err(AppendError::Unavailable));
    let delayed = store.append(append("a-1", "T")).expect("room in the queue");
    held.rollback().await.expect("given up");
    let appended = delayed.await.expect("recorded once the lock is free");
    assert_eq!(appended.position.get(), 1);

    // Readers never waited.
    let read = Read::after(Target::All, GlobalPosition::START, 10);
    assert_eq!(store.read(read).await.expect("a page").events.len(), 1);
    store.close().await;
}
