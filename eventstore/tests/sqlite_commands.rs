//! Commands in SQLite: the key, the result and the events are one transaction, they outlive the
//! process, and they are forgotten after seven days.

#![cfg(feature = "sqlite")]

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tidewire_eventstore::{
    Append, CommandKey, CommandName, EventStore, EventType, Executed, Execution, ExpectedRevision,
    GlobalPosition, InputDigest, NewEvent, Read, SqliteOptions, SqliteStore, StreamName, Target,
    Timestamp,
};

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

fn name() -> CommandName {
    CommandName::new("count").expect("a good name")
}

fn key(key: &str) -> CommandKey {
    CommandKey::new(key).expect("a good key")
}

fn command(of: &str) -> Execution {
    let append = Append {
        stream: StreamName::new("a-1").expect("a good name"),
        expected: ExpectedRevision::Any,
        events: vec![NewEvent::json(EventType::new("T").expect("a good name"), "1")],
    };
    let (input, result) = (InputDigest::of(b"{}"), format!("\"{of}\"").into());
    Execution { name: name(), key: key(of), input, result, append: Some(append) }
}

async fn execute(store: &SqliteStore, of: &str) -> Result<Executed, &'static str> {
    let pending = store.execute(command(of)).expect("room in the queue");
    pending.await.map_err(|error| error.code())
}

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::serve()).await.expect("opens")
}

async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    SqliteConnection::connect_with(&options).await.expect("connects")
}

async fn events(store: &SqliteStore) -> usize {
    let read = Read::after(Target::All, GlobalPosition::START, 100);
    store.read(read).await.expect("a page").events.len()
}

#[tokio::test]
async fn a_command_that_cannot_be_recorded_appends_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    let store = open(&path).await;
    sqlx::raw_sql(
        "CREATE TRIGGER no_poison BEFORE INSERT ON commands WHEN NEW.key = 'poison' \
         BEGIN SELECT raise(ABORT, 'poison'); END",
    )
    .execute(&mut connect(&path).await)
    .await
    .expect("a trigger");
    let (one, bad, two) = tokio::join!(
        execute(&store, "good-1"),
        execute(&store, "poison"),
        execute(&store, "good-2")
    );
    assert_eq!((one.is_ok(), bad, two.is_ok()), (true, Err("refused"), true));
    assert_eq!(events(&store).await, 2);
    store.close().await;
}

#[tokio::test]
async fn a_command_has_its_first_result_from_another_process_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    let store = open(&path).await;
    let first = execute(&store, "k").await.expect("recorded");
    store.close().await;
    let store = open(&path).await;
    assert_eq!(execute(&store, "k").await, Ok(Executed { repeated: true, ..first }));
    assert_eq!(events(&store).await, 1);
    store.close().await;
}

#[tokio::test]
async fn commands_are_forgotten_after_seven_days() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    let store = open(&path).await;
    let mut connection = connect(&path).await;
    let age = async |connection: &mut SqliteConnection, days: i64, of: &str| {
        sqlx::query("UPDATE commands SET recorded_at = ?1 WHERE key = ?2")
            .bind(Timestamp::now().as_micros() - days * DAY_MICROS)
            .bind(of)
            .execute(connection)
            .await
            .expect("aged");
    };
    for of in ["old", "young"] {
        execute(&store, of).await.expect("recorded");
    }
    age(&mut connection, 8, "old").await;
    age(&mut connection, 6, "young").await;
    execute(&store, "new").await.expect("recorded");
    let found = async |of: &str| store.command_result(&name(), &key(of)).await.expect("a look");
    assert_eq!(found("old").await, None);
    assert!(found("young").await.is_some());
    assert!(found("new").await.is_some());
    store.close().await;
}
