//! What the file's schema promises by itself: migrations that many may run at once, constraints
//! against holes and mistakes, and an index for every page.

#![cfg(feature = "sqlite")]

use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tidewire_eventstore::{
    Append, EventStore, EventType, ExpectedRevision, GlobalPosition, NewEvent, OpenError, Read,
    SqliteOptions, SqliteStore, StreamName, Target,
};

async fn new_log() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    open(&path).await.expect("a new log opens").close().await;
    (folder, path)
}

async fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, SqliteOptions::tool()).await
}

async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    SqliteConnection::connect_with(&options).await.expect("connects")
}

async fn execute(connection: &mut SqliteConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_open_a_new_log_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..6 {
        let path = path.clone();
        tasks.spawn(async move {
            let store = open(&path).await.expect("opens beside others");
            let stream = StreamName::new(&format!("a-{}", number % 2)).expect("a good name");
            for _ in 0..10 {
                let event = NewEvent::json(EventType::new("T").expect("a good name"), "1");
                let append = Append {
                    stream: stream.clone(),
                    expected: ExpectedRevision::Any,
                    events: vec![event],
                };
                store.append(append).expect("room in the queue").await.expect("recorded");
            }
            store.close().await;
        });
    }
    tasks.join_all().await;
    let store = open(&path).await.expect("opens");
    let head = store.head().await.expect("a head");
    assert_eq!((head.position.get(), head.epochs.len()), (60, 1));
    let read = Read::after(Target::All, GlobalPosition::START, 100);
    let page = store.read(read).await.expect("a page");
    for (event, position) in page.events.iter().zip(1..) {
        assert_eq!(event.position.get(), position);
    }
    store.close().await;
}

#[tokio::test]
async fn a_schema_one_version_newer_is_used_and_two_are_refused() {
    let (_folder, path) = new_log().await;
    let mut connection = connect(&path).await;
    let known: u32 = sqlx::query_scalar("SELECT max(version) FROM tidewire_migrations")
        .fetch_one(&mut connection)
        .await
        .expect("a version");
    let newer = "INSERT INTO tidewire_migrations \
                 SELECT max(version) + 1, 'newer', 0 FROM tidewire_migrations";
    execute(&mut connection, newer).await.expect("recorded");
    open(&path).await.expect("one version newer is used").close().await;
    execute(&mut connection, newer).await.expect("recorded");
    let refused = open(&path).await.map(drop);
    assert_eq!(refused, Err(OpenError::NewerSchema { path, found: known + 2, known }));
}

#[tokio::test]
async fn what_is_not_a_log_is_not_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    std::fs::write(&path, "certainly not a database, but long enough to be looked at".repeat(99))
        .expect("written");
    assert!(matches!(open(&path).await.map(drop), Err(OpenError::File { .. })));
    let nowhere = folder.path().join("no/such/folder/log.db");
    assert!(matches!(open(&nowhere).await.map(drop), Err(OpenError::File { .. })));
}

#[tokio::test]
async fn the_database_refuses_holes_and_mistakes() {
    let (_folder, path) = new_log().await;
    let mut connection = connect(&path).await;
    let insert = |values: &str| {
        format!(
            "INSERT INTO events \
             (position, revision, recorded_at, id, stream, type, data, content_type, meta) \
             VALUES ({values})"
        )
    };
    let good = "1, 0, 0, randomblob(16), 'a-1', 'T', '1', NULL, NULL";
    execute(&mut connection, &insert(good)).await.expect("a good row");
    for (wrong, values) in [
        ("a hole in positions", "3, 1, 0, randomblob(16), 'a-1', 'T', '1', NULL, NULL"),
        ("a position twice", "1, 1, 0, randomblob(16), 'a-1', 'T', '1', NULL, NULL"),
        ("a hole in revisions", "2, 2, 0, randomblob(16), 'a-1', 'T', '1', NULL, NULL"),
        ("a revision twice", "2, 0, 0, randomblob(16), 'a-1', 'T', '1', NULL, NULL"),
        ("a stream that starts late", "2, 1, 0, randomblob(16), 'a-2', 'T', '1', NULL, NULL"),
        ("a short id", "2, 1, 0, randomblob(15), 'a-1', 'T', '1', NULL, NULL"),
        ("no category", "2, 0, 0, randomblob(16), '-1', 'T', '1', NULL, NULL"),
        ("no type", "2, 1, 0, randomblob(16), 'a-1', '', '1', NULL, NULL"),
        ("JSON in a blob", "2, 1, 0, randomblob(16), 'a-1', 'T', x'31', NULL, NULL"),
        ("binary in a text", "2, 1, 0, randomblob(16), 'a-1', 'T', '1', 'a/b', NULL"),
    ] {
        assert!(execute(&mut connection, &insert(values)).await.is_err(), "{wrong}");
    }
    let next = "2, 1, 0, randomblob(16), 'a-1', 'T', x'00', 'a/b', '{}'";
    execute(&mut connection, &insert(next)).await.expect("a good row");
}

#[tokio::test]
async fn pages_find_their_first_event_by_an_index() {
    let (_folder, path) = new_log().await;
    let mut connection = connect(&path).await;
    for (sql, search) in [
        (include_str!("../src/sqlite/sql/read_all_forwards.sql"), "INTEGER PRIMARY KEY (rowid>?"),
        (include_str!("../src/sqlite/sql/read_all_backwards.sql"), "INTEGER PRIMARY KEY (rowid>?"),
        (
            include_str!("../src/sqlite/sql/read_category_forwards.sql"),
            "events_by_category (category=? AND position>?",
        ),
        (
            include_str!("../src/sqlite/sql/read_category_backwards.sql"),
            "events_by_category (category=? AND position>?",
        ),
        (
            include_str!("../src/sqlite/sql/read_stream_forwards.sql"),
            "events_by_stream (stream=? AND revision>?",
        ),
        (
            include_str!("../src/sqlite/sql/read_stream_backwards.sql"),
            "events_by_stream (stream=? AND revision>?",
        ),
        (
            include_str!("../src/sqlite/sql/find_revision.sql"),
            "events_by_stream (stream=? AND revision=?)",
        ),
        (include_str!("../src/sqlite/sql/find_command.sql"), "commands_by_key (name=? AND key=?)"),
        (include_str!("../src/sqlite/sql/load_revisions.sql"), "events_by_stream (stream=?)"),
        (include_str!("../src/sqlite/sql/list_consumers.sql"), "PRIMARY KEY (name>?"),
        (include_str!("../src/sqlite/sql/look_at_consumers.sql"), "PRIMARY KEY (name=?"),
        (
            include_str!("../src/sqlite/sql/list_parked.sql"),
            "PRIMARY KEY (consumer=? AND position>?",
        ),
        (
            include_str!("../src/sqlite/sql/find_replays.sql"),
            "consumer_parked_replaying (consumer=? AND partition=?",
        ),
        (
            include_str!("../src/sqlite/sql/find_held.sql"),
            "PRIMARY KEY (consumer=? AND partition=?",
        ),
        (
            include_str!("../src/sqlite/sql/save_progress.sql"),
            "PRIMARY KEY (consumer=? AND partition=?",
        ),
        (
            include_str!("../src/sqlite/sql/renew_leases.sql"),
            "PRIMARY KEY (consumer=? AND member=?",
        ),
        (
            include_str!("../src/sqlite/sql/find_parked.sql"),
            "PRIMARY KEY (consumer=? AND position=?",
        ),
        (
            include_str!("../src/sqlite/sql/unpark_events.sql"),
            "PRIMARY KEY (consumer=? AND position=?",
        ),
    ] {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).fetch_all(&mut connection).await.expect("a plan");
        let steps: Vec<_> = plan.into_iter().map(|(_, _, _, step)| step).collect();
        assert!(steps.iter().any(|step| step.contains(search)), "{search}: {steps:#?}");
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE FOR ORDER BY")), "{steps:#?}");
    }
}
