//! What SQLite does by itself when it runs out of room, and what is left of it.

use std::path::Path;

use bytes::Bytes;
use tidewire_eventstore::{EventStore as _, SqliteOptions, SqliteStore};
use uuid::Uuid;

use super::*;
use crate::documents::Write;

async fn opened(path: &Path) -> SqliteDocuments {
    let log = SqliteStore::open(path, SqliteOptions::tool()).await.unwrap();
    log.close().await;
    SqliteDocuments::open(path, SqliteDocumentsOptions::default()).await.unwrap()
}

async fn owned(store: &SqliteDocuments) -> (Held, Generation) {
    let name = ProjectionName::new("board").unwrap();
    let generation = store.register(&name, 1).await.unwrap().active.generation;
    let owner = Owner { id: Uuid::new_v4(), node: "node".into() };
    let fence = store.claim(&name, owner, Duration::from_secs(600)).await.unwrap().unwrap();
    (Held { name, fence }, generation)
}

/// A commit of documents of 100 kB, each at its own position.
fn large(held: &Held, generation: Generation, from: u64, documents: u64) -> Commit {
    let text = format!("{{\"text\":\"{}\"}}", "x".repeat(100_000));
    let write = |number| Write {
        key: DocumentKey::new(&format!("key-{number}")).unwrap(),
        position: GlobalPosition::new(number),
        data: Some(Bytes::from(text.clone())),
        indexed_before: Vec::new(),
        indexed_after: Vec::new(),
    };
    Commit {
        held: held.clone(),
        generation,
        expected: GlobalPosition::new(from),
        position: GlobalPosition::new(from + documents),
        writes: (from + 1..=from + documents).map(write).collect(),
        parked: Vec::new(),
        sql: None,
    }
}

/// Where the file may not grow, a commit that needs room is refused whole, reads go on, and so do
/// commits once there is room.
#[tokio::test]
async fn a_full_disk_refuses_commits_and_goes_on_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder.path().join("log.db")).await;
    let (held, generation) = owned(&store).await;
    store.commit(large(&held, generation, 0, 10)).await.unwrap();
    // The bound is the connection's, and the pool has one.
    let mut connection = store.commits.acquire().await.unwrap();
    let pages: i64 =
        sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *connection).await.unwrap();
    let bound = |pages: i64| sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::query(bound(pages + 10)).execute(&mut *connection).await.unwrap();
    drop(connection);
    for _ in 0..3 {
        let refused = store.commit(large(&held, generation, 10, 20)).await;
        assert_eq!(refused, Err(StoreError::Unavailable), "it may work later");
        let read = ChangesRead { generation, after: GlobalPosition::START, limit: 100 };
        let page = store.changes(read).await.unwrap();
        assert_eq!((page.checkpoint, page.changes.len()), (GlobalPosition::new(10), 10));
    }
    let mut connection = store.commits.acquire().await.unwrap();
    sqlx::query(bound(1 << 30)).execute(&mut *connection).await.unwrap();
    drop(connection);
    store.commit(large(&held, generation, 10, 20)).await.expect("there is room");
    store.close().await;
}

/// A COMMIT for which there is no room ends the transaction, and SQLite says so by an error; the
/// connection then takes itself to be in one for ever, because its own ROLLBACK fails.
#[tokio::test]
async fn a_transaction_that_sqlite_has_ended_by_itself_does_no_lasting_harm() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder.path().join("log.db")).await;
    let (held, generation) = owned(&store).await;
    for pool in [&store.commits, &store.ownership] {
        let mut connection = pool.acquire().await.unwrap();
        let mut writing = store.write(&mut connection).await.unwrap();
        sqlx::query("ROLLBACK").execute(writing.connection()).await.unwrap();
    }
    store.commit(large(&held, generation, 0, 1)).await.expect("on a connection that is sound");
    store.renew(&held, Duration::from_secs(60)).await.expect("on a connection that is sound");
    store.close().await;
}
