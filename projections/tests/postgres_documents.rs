//! What documents in PostgreSQL promise beyond other stores: owners on connections of their own
//! that race, stall and die, sessions that end in the middle, answers that are lost, a server that
//! crashes.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../eventstore/tests/support/mod.rs"]
mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, Executor as _, PgConnection};
use support::{
    Database,
    cluster::Cluster,
    eventually,
    link::{Fault, Link},
    soon,
};
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition, ProjectionName};
use tidewire_projections::{
    DocumentStore, PostgresDocuments, PostgresDocumentsOptions, StoreError,
    documents::{Commit, DOCUMENT_BYTES_MAX, Fence, Held, Owner, Wish, Write},
};
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(60);

fn name() -> ProjectionName {
    ProjectionName::new("sums").unwrap()
}

fn key(key: &str) -> DocumentKey {
    DocumentKey::new(key).unwrap()
}

fn owner() -> Owner {
    Owner { id: Uuid::new_v4(), node: "node".into() }
}

async fn open(url: &str) -> Arc<PostgresDocuments> {
    Arc::new(PostgresDocuments::connect(PostgresDocumentsOptions::new(url)).await.unwrap())
}

/// A projection that is owned, empty.
struct Owned {
    database: Database,
    documents: Arc<PostgresDocuments>,
    generation: Generation,
    held: Held,
}

async fn owned() -> Owned {
    let database = Database::create().await;
    let documents = open(&database.url).await;
    let generation = documents.register(&name(), 1).await.unwrap().active.generation;
    let fence = documents.claim(&name(), owner(), LONG).await.unwrap().unwrap();
    Owned { database, documents, generation, held: held(fence) }
}

fn held(fence: Fence) -> Held {
    Held { name: name(), fence }
}

fn count(count: u64) -> Option<bytes::Bytes> {
    Some(format!(r#"{{"count":{count}}}"#).into())
}

/// The commit that counts the event after `expected`.
fn counting(held: &Held, generation: Generation, expected: u64) -> Commit {
    let position = GlobalPosition::new(expected + 1);
    let write = Write {
        key: key("total"),
        position,
        data: count(expected + 1),
        indexed_before: vec![],
        indexed_after: vec![],
    };
    Commit {
        held: held.clone(),
        generation,
        expected: GlobalPosition::new(expected),
        position,
        writes: vec![write],
        parked: vec![],
        sql: None,
    }
}

impl Owned {
    async fn commit(&self, expected: u64) -> Result<(), StoreError> {
        self.documents.commit(counting(&self.held, self.generation, expected)).await
    }

    /// The checkpoint, which has to be what the document says.
    async fn checkpoint(&self) -> u64 {
        checkpoint(&self.documents, self.generation).await
    }
}

async fn checkpoint(documents: &PostgresDocuments, generation: Generation) -> u64 {
    let checkpoint = documents.status(&name()).await.unwrap().unwrap().active.checkpoint.get();
    let found = documents.documents(generation, vec![key("total")]).await.unwrap();
    let counted = found.first().map(|found| found.data.clone());
    assert_eq!(counted, if checkpoint == 0 { None } else { count(checkpoint) });
    checkpoint
}

/// Sessions of the store that wait for a lock.
async fn waiting(connection: &mut PgConnection) -> Vec<i32> {
    sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

async fn until_waiting(connection: &mut PgConnection) -> i32 {
    let since = Instant::now();
    loop {
        if let Some(pid) = waiting(connection).await.first() {
            return *pid;
        }
        assert!(since.elapsed() < support::DEADLINE, "nobody waits for a lock");
        tokio::task::yield_now().await;
    }
}

const LOCK_TOTAL: &str = "SELECT FROM tidewire.documents WHERE key = 'total' FOR UPDATE";

#[tokio::test]
async fn owners_that_race_count_each_event_once() {
    const OWNERS: u64 = 4;
    const EVENTS: u64 = 300;
    let database = Database::create().await;
    let first = open(&database.url).await;
    let generation = first.register(&name(), 1).await.unwrap().active.generation;
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..OWNERS {
        let (documents, owner) = (open(&database.url).await, owner());
        // Each goes on under the fence that it had, whoever has claimed the projection since.
        racing.spawn(async move {
            let (mut fenced, mut committed) = (0, 0);
            loop {
                let claim = documents.claim(&name(), owner.clone(), Duration::from_millis(5)).await;
                let Some(fence) = claim.unwrap() else { continue };
                loop {
                    let status = documents.status(&name()).await.unwrap().unwrap();
                    let at = status.active.checkpoint.get();
                    if at >= EVENTS {
                        return (fenced, committed);
                    }
                    match documents.commit(counting(&held(fence), generation, at)).await {
                        Ok(()) => committed += 1,
                        Err(StoreError::Fenced) => {
                            fenced += 1;
                            break;
                        }
                        Err(StoreError::Conflict) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        });
    }
    let ended = soon("the race ends", racing.join_all()).await;
    let committed: u64 = ended.iter().map(|(_, committed)| committed).sum();
    let fenced: u64 = ended.iter().map(|(fenced, _)| fenced).sum();
    assert_eq!(committed, EVENTS, "each event once");
    assert!(fenced > 0, "nobody was ever fenced off: the owners did not race");
    assert_eq!(checkpoint(&first, generation).await, EVENTS);
}

#[tokio::test]
async fn a_commit_whose_session_is_ended_has_no_effect() {
    let owned = owned().await;
    owned.commit(0).await.unwrap();
    let (mut blocker, mut watcher) =
        (owned.database.connection().await, owned.database.connection().await);
    let mut blocking = blocker.begin().await.unwrap();
    blocking.execute(LOCK_TOTAL).await.unwrap();
    let committing = owned.commit(1);
    let ending = async {
        let pid = until_waiting(&mut watcher).await;
        sqlx::query("SELECT pg_terminate_backend($1)")
            .bind(pid)
            .execute(&mut watcher)
            .await
            .unwrap();
    };
    let (committed, ()) = soon("the commit ends", async { tokio::join!(committing, ending) }).await;
    assert_eq!(committed, Err(StoreError::Unavailable));
    blocking.rollback().await.unwrap();
    assert_eq!(owned.checkpoint().await, 1);
    owned.commit(1).await.unwrap();
    assert_eq!(owned.checkpoint().await, 2);
}

/// An owner whose next COMMIT meets `fault`.
async fn owned_through(fault: Fault) -> (Owned, Link) {
    let database = Database::create().await;
    let link = Link::to(&database.url).await;
    let documents = open(&link.through(&database.url)).await;
    let generation = documents.register(&name(), 1).await.unwrap().active.generation;
    let fence = documents.claim(&name(), owner(), LONG).await.unwrap().unwrap();
    let owned = Owned { database, documents, generation, held: held(fence) };
    owned.commit(0).await.unwrap();
    link.strike("COMMIT", fault);
    (owned, link)
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found() {
    let (owned, link) = owned_through(Fault::LoseAnswer).await;
    soon("an answer", owned.commit(1)).await.unwrap();
    assert_eq!(link.struck(), 1);
    assert_eq!(owned.checkpoint().await, 2);
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_not_told_to_have_happened() {
    let (owned, link) = owned_through(Fault::LoseRequest).await;
    assert_eq!(soon("an answer", owned.commit(1)).await, Err(StoreError::Unavailable));
    assert_eq!(link.struck(), 1);
    assert_eq!(owned.checkpoint().await, 1);
    owned.commit(1).await.unwrap();
    assert_eq!(owned.checkpoint().await, 2);
}

#[tokio::test]
async fn a_commit_on_its_way_is_waited_for() {
    let (owned, link) = owned_through(Fault::DelayRequest).await;
    let mut watcher = owned.database.connection().await;
    let arriving = async {
        until_waiting(&mut watcher).await;
        link.deliver().await;
    };
    let both = async { tokio::join!(owned.commit(1), arriving) };
    let (committed, ()) = soon("an answer", both).await;
    assert_eq!(committed, Ok(()));
    assert_eq!(owned.checkpoint().await, 2);
}

#[tokio::test]
async fn a_swap_whose_answer_was_lost_is_found() {
    let (owned, link) = owned_through(Fault::LoseAnswer).await;
    link.strike("nothing yet", Fault::LoseAnswer);
    let building = owned.documents.begin_generation(&owned.held, 2).await.unwrap();
    owned.documents.commit(counting(&owned.held, building, 0)).await.unwrap();
    link.strike("COMMIT", Fault::LoseAnswer);
    let swapped = soon("an answer", owned.documents.swap(&owned.held, building)).await;
    assert_eq!(swapped, Ok(true));
    assert_eq!(link.struck(), 1);
    let status = owned.documents.status(&name()).await.unwrap().unwrap();
    assert_eq!((status.active.generation, status.building), (building, None));
}

#[tokio::test]
async fn who_dies_without_a_word_is_followed_when_its_lease_ends() {
    let database = Database::create().await;
    let documents = open(&database.url).await;
    let generation = documents.register(&name(), 1).await.unwrap().active.generation;
    let lease = Duration::from_millis(700);
    let since = Instant::now();
    let dead = documents.claim(&name(), owner(), lease).await.unwrap().unwrap();
    let next = owner();
    assert_eq!(documents.claim(&name(), next.clone(), LONG).await, Ok(None), "the lease runs");
    eventually("the next owner", || async {
        documents.claim(&name(), next.clone(), lease).await.unwrap().is_some()
    })
    .await;
    assert!(since.elapsed() >= lease, "not before the lease has ended");
    let fence = documents.status(&name()).await.unwrap().unwrap().fence;
    // The dead one comes back, and knows nothing of it.
    let late = documents.commit(counting(&held(dead), generation, 0)).await;
    assert_eq!(late, Err(StoreError::Fenced));
    assert_eq!(documents.renew(&held(dead), LONG).await, Err(StoreError::Fenced));
    documents.commit(counting(&held(fence), generation, 0)).await.unwrap();
    assert_eq!(checkpoint(&documents, generation).await, 1);
}

#[tokio::test]
async fn a_claim_waits_for_the_commit_that_is_under_way_and_a_renewal_does_not() {
    let owned = owned().await;
    owned.commit(0).await.unwrap();
    let (mut blocker, mut watcher) =
        (owned.database.connection().await, owned.database.connection().await);
    let mut blocking = blocker.begin().await.unwrap();
    blocking.execute(LOCK_TOTAL).await.unwrap();
    let other = open(&owned.database.url).await;
    let going = async {
        until_waiting(&mut watcher).await;
        // The owner's own renewal, which also lets its lease end at once.
        owned.documents.renew(&owned.held, Duration::ZERO).await.unwrap();
        owned.documents.wish(&name(), Wish::Rebuild).await.unwrap();
        let claim = tokio::spawn(async move { other.claim(&name(), owner(), LONG).await });
        eventually("the claim waits as well", || async {
            let mut connection = owned.database.connection().await;
            waiting(&mut connection).await.len() == 2
        })
        .await;
        assert!(!claim.is_finished(), "the claim waits for the commit");
        blocking.rollback().await.unwrap();
        claim.await.unwrap()
    };
    let (committed, claimed) =
        soon("both end", async { tokio::join!(owned.commit(1), going) }).await;
    assert_eq!(committed, Ok(()), "it was before the claim");
    let fence = claimed.unwrap().expect("the lease had ended");
    assert_eq!(owned.checkpoint().await, 2);
    assert_eq!(owned.commit(2).await, Err(StoreError::Fenced));
    owned.documents.commit(counting(&held(fence), owned.generation, 2)).await.unwrap();
    assert_eq!(owned.checkpoint().await, 3);
}

#[tokio::test]
async fn commits_of_two_generations_do_not_wait_for_each_other() {
    let owned = owned().await;
    let building = owned.documents.begin_generation(&owned.held, 2).await.unwrap();
    owned.documents.commit(counting(&owned.held, building, 0)).await.unwrap();
    let (mut blocker, mut watcher) =
        (owned.database.connection().await, owned.database.connection().await);
    let mut blocking = blocker.begin().await.unwrap();
    blocking.execute(LOCK_TOTAL).await.unwrap();
    let rebuilding = owned.documents.commit(counting(&owned.held, building, 1));
    let going = async {
        until_waiting(&mut watcher).await;
        owned.commit(0).await.unwrap();
        assert_eq!(owned.checkpoint().await, 1);
        blocking.rollback().await.unwrap();
    };
    let (rebuilt, ()) = soon("both end", async { tokio::join!(rebuilding, going) }).await;
    assert_eq!(rebuilt, Ok(()));
}

#[tokio::test]
async fn a_transaction_that_is_idle_for_long_holds_up_nothing() {
    let owned = owned().await;
    owned.commit(0).await.unwrap();
    let mut idle = owned.database.connection().await;
    idle.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM tidewire.documents")
        .await
        .unwrap();
    for expected in 1..50 {
        soon("a commit", owned.commit(expected)).await.unwrap();
    }
    assert_eq!(owned.checkpoint().await, 50);
    let seen: i64 = sqlx::query_scalar("SELECT position FROM tidewire.documents")
        .fetch_one(&mut idle)
        .await
        .unwrap();
    assert_eq!(seen, 1, "its snapshot stands");
}

#[tokio::test]
async fn only_commits_of_documents_do_not_wait_for_the_disk() {
    let owned = owned().await;
    let mut connection = owned.database.connection().await;
    connection
        .execute(
            "CREATE TABLE public.seen (what text, setting text);
             CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO public.seen
                 VALUES (TG_TABLE_NAME, current_setting('synchronous_commit'));
                 RETURN NULL;
             END $$;
             CREATE TRIGGER look AFTER INSERT OR UPDATE ON tidewire.documents
                 FOR EACH STATEMENT EXECUTE FUNCTION public.look();
             CREATE TRIGGER look AFTER INSERT OR UPDATE ON tidewire.projections
                 FOR EACH STATEMENT EXECUTE FUNCTION public.look();",
        )
        .await
        .unwrap();
    owned.commit(0).await.unwrap();
    let building = owned.documents.begin_generation(&owned.held, 2).await.unwrap();
    owned.documents.commit(counting(&owned.held, building, 0)).await.unwrap();
    assert_eq!(owned.documents.swap(&owned.held, building).await, Ok(true));
    owned.documents.release(&owned.held).await.unwrap();
    owned.documents.claim(&name(), owner(), LONG).await.unwrap().unwrap();
    let seen: Vec<(String, String)> =
        sqlx::query_as("SELECT DISTINCT what, setting FROM public.seen ORDER BY what")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let seen: Vec<_> =
        seen.iter().map(|(what, setting)| (what.as_str(), setting.as_str())).collect();
    assert_eq!(seen, [("documents", "off"), ("projections", "on")]);
}

#[tokio::test]
async fn a_crash_loses_documents_and_checkpoint_together_and_no_claim() {
    let cluster = Cluster::start();
    let documents = open(&cluster.url()).await;
    let generation = documents.register(&name(), 1).await.unwrap().active.generation;
    let mut expected = 0;
    for _ in 0..3 {
        // Each connection of the pools learns of a crash when it is used.
        let fence = loop {
            match documents.claim(&name(), owner(), Duration::ZERO).await {
                Ok(fence) => break fence.unwrap(),
                Err(error) => assert_eq!(error, StoreError::Unavailable),
            }
        };
        let told = expected;
        for _ in 0..200 {
            while let Err(error) =
                documents.commit(counting(&held(fence), generation, expected)).await
            {
                assert_eq!(error, StoreError::Unavailable);
            }
            expected += 1;
        }
        cluster.kill();
        cluster.resume();
        // Each connection learns of the crash when it is used.
        eventually("the server serves again", || async {
            documents.status(&name()).await.is_ok() && documents.register(&name(), 1).await.is_ok()
        })
        .await;
        let status = documents.status(&name()).await.unwrap().unwrap();
        assert_eq!(status.fence, fence, "a claim that was told is there");
        let found = checkpoint(&documents, generation).await;
        assert!((told..=expected).contains(&found), "{found} of {told} to {expected}");
        expected = found;
    }
    assert!(expected > 0);
    documents.close().await;
}

#[tokio::test]
async fn a_commit_may_be_larger_than_one_statement_takes() {
    let owned = owned().await;
    let text = format!(r#"{{"text":"{}"}}"#, "x".repeat(DOCUMENT_BYTES_MAX - 11));
    assert_eq!(text.len(), DOCUMENT_BYTES_MAX);
    let writes = (0..40_u8).map(|n| Write {
        key: key(&format!("large-{n}")),
        position: GlobalPosition::new(1),
        data: Some(text.clone().into()),
        indexed_before: vec![],
        indexed_after: vec![],
    });
    let mut commit = counting(&owned.held, owned.generation, 0);
    commit.writes.extend(writes);
    soon("the commit", owned.documents.commit(commit)).await.unwrap();
    let keys = (0..40_u8).map(|n| key(&format!("large-{n}"))).collect();
    let found = owned.documents.documents(owned.generation, keys).await.unwrap();
    assert_eq!(found.len(), 40);
    assert!(found.iter().all(|found| found.data == text));
}
