//! Documents in SQLite when the database does not play along: another process holds the write
//! lock, the log is missing or old; and that every statement finds its rows by an index.

#![cfg(feature = "sqlite")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tidewire_eventstore::{
    Append, EventStore, EventType, ExpectedRevision, Generation, GlobalPosition, NewEvent,
    ProjectionName, SqliteOptions, SqliteStore, StreamName,
};
use tidewire_projections::{
    DocumentStore, SqliteDocuments, SqliteDocumentsOptions, StoreError,
    documents::{ChangesRead, Commit, Held, Owner},
};
use uuid::Uuid;

async fn new_log() -> (TempDir, PathBuf, SqliteStore) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    let log = SqliteStore::open(&path, SqliteOptions::serve()).await.expect("a new log opens");
    (folder, path, log)
}

async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    SqliteConnection::connect_with(&options).await.expect("connects")
}

async fn owned(store: &SqliteDocuments) -> (Held, Generation) {
    let name = ProjectionName::new("board").expect("a good name");
    let status = store.register(&name, 1).await.expect("registered");
    let owner = Owner { id: Uuid::new_v4(), node: "node".into() };
    let lease = Duration::from_secs(600);
    let fence = store.claim(&name, owner, lease).await.expect("it answers").expect("it is free");
    (Held { name, fence }, status.active.generation)
}

fn empty(held: &Held, generation: Generation, from: u64, to: u64) -> Commit {
    Commit {
        held: held.clone(),
        generation,
        expected: GlobalPosition::new(from),
        position: GlobalPosition::new(to),
        writes: Vec::new(),
        parked: Vec::new(),
        sql: None,
    }
}

#[tokio::test]
async fn a_write_lock_held_by_another_fails_a_commit_and_nothing_else() {
    let (_folder, path, log) = new_log().await;
    let mut options = SqliteDocumentsOptions::default();
    options.busy_timeout = Duration::from_millis(20);
    let store = SqliteDocuments::open(&path, options).await.expect("it opens");
    let (held, generation) = owned(&store).await;
    let mut other = connect(&path).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.expect("the lock");
    let commit = empty(&held, generation, 0, 5);
    assert_eq!(store.commit(commit.clone()).await, Err(StoreError::Unavailable));
    assert_eq!(store.renew(&held, Duration::from_secs(1)).await, Err(StoreError::Unavailable));
    // Readers never wait.
    let read = ChangesRead { generation, after: GlobalPosition::START, limit: 10 };
    assert_eq!(store.changes(read).await.expect("a page").checkpoint, GlobalPosition::START);
    lock.rollback().await.expect("given up");
    store.commit(commit).await.expect("the lock is free");
    assert_eq!(store.changes(read).await.expect("a page").checkpoint, GlobalPosition::new(5));
    store.close().await;
    log.close().await;
}

/// A log that is written all the time and documents that are, in one process, take turns: neither
/// meets the other at SQLite's lock, where nobody has patience here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_and_its_documents_take_turns() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    let mut options = SqliteOptions::serve();
    options.busy_timeout = Duration::ZERO;
    let log = SqliteStore::open(&path, options).await.expect("a new log opens");
    let mut options = SqliteDocumentsOptions::default();
    options.busy_timeout = Duration::ZERO;
    let store = SqliteDocuments::open(&path, options).await.expect("it opens");
    let (held, generation) = owned(&store).await;
    let appending = async {
        for _ in 0..200 {
            let event = NewEvent::json(EventType::new("T").expect("a good name"), "1");
            let append = Append {
                stream: StreamName::new("a-1").expect("a good name"),
                expected: ExpectedRevision::Any,
                events: vec![event],
            };
            log.append(append).expect("room in the queue").await.expect("recorded");
        }
    };
    let committing = async {
        for position in 0..200 {
            let commit = empty(&held, generation, position, position + 1);
            store.commit(commit).await.expect("its turn comes");
        }
    };
    let renewing = async {
        for _ in 0..200 {
            store.renew(&held, Duration::from_secs(60)).await.expect("its turn comes");
        }
    };
    tokio::join!(appending, committing, renewing);
    store.close().await;
    log.close().await;
}

#[tokio::test]
async fn documents_need_a_log_that_has_room_for_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.db");
    let open = |path: PathBuf| async move {
        let opened = SqliteDocuments::open(&path, SqliteDocumentsOptions::default()).await;
        opened.map(drop).map_err(|error| error.path)
    };
    assert_eq!(open(missing.clone()).await, Err(missing.clone()));
    assert!(!missing.exists(), "none is made");
    let (_folder, path, log) = new_log().await;
    log.close().await;
    sqlx::raw_sql("DROP TABLE projection_numbers")
        .execute(&mut connect(&path).await)
        .await
        .expect("an older log");
    assert_eq!(open(path.clone()).await, Err(path));
}

#[tokio::test]
async fn every_statement_finds_its_rows_by_an_index() {
    macro_rules! sql {
        ($name:literal) => {
            include_str!(concat!("../src/documents/sqlite/sql/", $name, ".sql"))
        };
    }
    let (_folder, path, log) = new_log().await;
    log.close().await;
    let mut connection = connect(&path).await;
    for (sql, search) in [
        (sql!("page_by_key_forwards"), "PRIMARY KEY (generation=? AND key>?"),
        (sql!("page_by_key_backwards"), "PRIMARY KEY (generation=? AND key<?"),
        (
            sql!("page_by_entry_forwards"),
            "PRIMARY KEY (generation=? AND number=? AND (entry,key)>(?,?) AND entry<?",
        ),
        (
            sql!("page_by_entry_backwards"),
            "PRIMARY KEY (generation=? AND number=? AND entry>? AND entry<?",
        ),
        (sql!("page_of_entry"), "PRIMARY KEY (generation=? AND number=? AND entry=? AND key>?"),
        (sql!("read_changes"), "documents_by_position (generation=? AND position>?"),
        (sql!("load_documents"), "PRIMARY KEY (generation=? AND key=?"),
        (sql!("list_parked"), "PRIMARY KEY (generation=? AND position>?"),
        (sql!("count_tombstones"), "COVERING INDEX documents_deleted (generation=?"),
        (sql!("delete_tombstones"), "COVERING INDEX documents_deleted (generation=?"),
        (sql!("delete_tombstones"), "PRIMARY KEY (generation=? AND key=?"),
        (sql!("delete_documents"), "PRIMARY KEY (generation=? AND key=?"),
        (sql!("delete_entries"), "PRIMARY KEY (generation=? AND number=? AND entry=? AND key=?"),
        (sql!("find_sweepable"), "projection_generations_retired"),
        (sql!("move_checkpoint"), "INTEGER PRIMARY KEY (rowid=?"),
        (sql!("find_held"), "PRIMARY KEY (name=?"),
        (
            "DELETE FROM document_entries WHERE (generation, number, entry, key) IN \
             (VALUES (?, ?, ?, ?), (?, ?, ?, ?))",
            "PRIMARY KEY (generation=? AND number=? AND entry=? AND key=?",
        ),
    ] {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).fetch_all(&mut connection).await.expect("a plan");
        let steps: Vec<_> = plan.into_iter().map(|(_, _, _, step)| step).collect();
        assert!(steps.iter().any(|step| step.contains(search)), "{search}: {steps:#?}");
        // Of several terms the last may be sorted as they come.
        let sorts = |step: &String| step.contains("TEMP B-TREE FOR ORDER BY");
        assert!(!steps.iter().any(sorts), "{steps:#?}");
    }
}
