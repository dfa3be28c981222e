//! SQL projections: statements run in the transaction of the checkpoint, over tables of the
//! application's own; whatever is wrong with them, checkpoint and tables stay as they were.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../eventstore/tests/support/mod.rs"]
mod support;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use support::{Database, eventually, soon};
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition, ProjectionName};
use tidewire_projections::{
    DocumentStore, PostgresDocuments, PostgresDocumentsOptions, StoreError,
    documents::{Commit, Held, Owner, SqlBatch, Write},
};
use uuid::Uuid;

const TABLES: &str = "
    CREATE TABLE public.sums (generation bigint, stream text, total bigint NOT NULL CHECK (total < 1000),
                       PRIMARY KEY (generation, stream));
    CREATE TABLE known (stream text PRIMARY KEY);
    INSERT INTO known VALUES ('a-1'), ('a-2');
    CREATE TABLE seen (stream text REFERENCES known DEFERRABLE INITIALLY DEFERRED);";

const SUM: &str = "
    INSERT INTO public.sums AS s (generation, stream, total)
    SELECT $2, e.stream, sum((e.data ->> 'n')::bigint)
      FROM json_to_recordset($1) AS e (stream text, data json)
     GROUP BY e.stream
        ON CONFLICT (generation, stream) DO UPDATE SET total = s.total + excluded.total";

struct Owned {
    database: Database,
    documents: Arc<PostgresDocuments>,
    generation: Generation,
    held: Held,
}

async fn owned() -> Owned {
    let database = Database::create().await;
    let options = PostgresDocumentsOptions::new(&database.url);
    let documents = Arc::new(PostgresDocuments::connect(options).await.unwrap());
    database.connection().await.execute(TABLES).await.unwrap();
    let name = ProjectionName::new("sums").unwrap();
    let generation = documents.register(&name, 1).await.unwrap().active.generation;
    let owner = Owner { id: Uuid::new_v4(), node: "node".into() };
    let fence = documents.claim(&name, owner, Duration::from_secs(60)).await.unwrap().unwrap();
    Owned { database, documents, generation, held: Held { name, fence } }
}

/// A commit of the event at `position`, with a document beside it, so that both are seen to go.
fn commit(owned: &Owned, position: u64, statement: &str, stream: &str, n: i64) -> Commit {
    let event = json!([{"position": position, "stream": stream, "data": {"n": n}}]);
    let at = GlobalPosition::new(position);
    Commit {
        held: owned.held.clone(),
        generation: owned.generation,
        expected: GlobalPosition::new(position - 1),
        position: at,
        writes: vec![Write {
            key: DocumentKey::new("beside").unwrap(),
            position: at,
            data: Some(json!({"position": position}).to_string().into()),
            indexed_before: vec![],
            indexed_after: vec![],
        }],
        parked: vec![],
        sql: Some(SqlBatch { statement: statement.into(), events: event.to_string().into() }),
    }
}

impl Owned {
    async fn run(&self, position: u64, statement: &str, n: i64) -> Result<(), StoreError> {
        soon("an answer", self.documents.commit(commit(self, position, statement, "a-1", n))).await
    }

    /// Checkpoint, the position in the document, and the sum of all streams: of one transaction.
    async fn found(&self) -> (u64, u64, i64) {
        let status = self.documents.status(&self.held.name).await.unwrap().unwrap();
        let beside = vec![DocumentKey::new("beside").unwrap()];
        let document = self.documents.documents(self.generation, beside).await.unwrap();
        let document = document.first().map_or(0, |document| {
            let value: serde_json::Value = serde_json::from_slice(&document.data).unwrap();
            value["position"].as_u64().unwrap()
        });
        let sum: i64 =
            sqlx::query_scalar("SELECT coalesce(sum(total), 0)::bigint FROM public.sums")
                .fetch_one(&mut self.database.connection().await)
                .await
                .unwrap();
        (status.active.checkpoint.get(), document, sum)
    }
}

fn sqlstate(error: &StoreError) -> &str {
    match error {
        StoreError::Sql { sqlstate, .. } => sqlstate,
        other => panic!("not an error of the statement: {other:?}"),
    }
}

#[tokio::test]
async fn a_statement_and_its_checkpoint_are_one() {
    let owned = owned().await;
    owned.run(1, SUM, 20).await.unwrap();
    owned.run(2, SUM, 22).await.unwrap();
    assert_eq!(owned.found().await, (2, 2, 42));
    // Sent again, as after a lost answer: nothing is counted twice.
    assert_eq!(owned.run(2, SUM, 22).await, Err(StoreError::Conflict));
    assert_eq!(owned.found().await, (2, 2, 42));
    let generation: i64 = sqlx::query_scalar("SELECT generation FROM public.sums")
        .fetch_one(&mut owned.database.connection().await)
        .await
        .unwrap();
    assert_eq!(u64::try_from(generation), Ok(owned.generation.get()));
}

#[tokio::test]
async fn what_fails_on_an_event_is_told_with_its_sqlstate_and_undoes_all() {
    let owned = owned().await;
    owned.run(1, SUM, 1).await.unwrap();
    for (statement, n, expected) in [
        (SUM, 2000, "23514"),
        ("INSERT INTO public.sums SELECT $2, 'x', 1 / 0 * json_array_length($1)", 0, "22012"),
        ("SELECT ($1 -> 0 ->> 'stream')::bigint", 0, "22P02"),
        // A constraint that is looked at when the transaction ends.
        ("INSERT INTO seen VALUES ('unknown')", 0, "23503"),
    ] {
        let error = owned.run(2, statement, n).await.unwrap_err();
        assert_eq!(sqlstate(&error), expected, "{statement}: {error}");
        assert_eq!(owned.found().await, (1, 1, 1), "{statement}");
    }
    owned.run(2, SUM, 1).await.unwrap();
    assert_eq!(owned.found().await, (2, 2, 2), "the connection still serves");
}

#[tokio::test]
async fn what_cannot_run_at_all_is_no_events_fault() {
    let owned = owned().await;
    for statement in [
        "INSERT INTO nowhere SELECT $2",
        "INSERT INTO public.sums SELEC $2",
        "UPDATE public.sums SET total = 1; DELETE FROM public.sums",
        "SELECT $3",
    ] {
        let error = owned.run(1, statement, 0).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Refused { reason } if reason.starts_with("42") || reason.starts_with("08P01")),
            "{statement}: {error:?}"
        );
        assert_eq!(owned.found().await, (0, 0, 0), "{statement}");
    }
}

#[tokio::test]
async fn a_procedure_cannot_end_the_transaction() {
    let owned = owned().await;
    let mut connection = owned.database.connection().await;
    connection
        .execute(
            "CREATE PROCEDURE early() LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO public.sums VALUES (0, 'early', 1); COMMIT; END $$",
        )
        .await
        .unwrap();
    let error = owned.run(1, "CALL early()", 0).await.unwrap_err();
    assert_eq!(sqlstate(&error), "2D000");
    assert_eq!(owned.found().await, (0, 0, 0));
}

/// What `statement` finds, where it is the statement of a projection.
async fn seen_by_a_statement(owned: &Owned, expression: &str) -> String {
    let mut connection = owned.database.connection().await;
    connection.execute("CREATE TABLE IF NOT EXISTS public.notes (note text)").await.unwrap();
    connection.execute("TRUNCATE public.notes").await.unwrap();
    let at = owned.found().await.0 + 1;
    let statement = format!("INSERT INTO public.notes SELECT ({expression})::text");
    owned.run(at, &statement, 0).await.unwrap();
    sqlx::query_scalar("SELECT note FROM public.notes").fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_statement_sees_the_settings_of_role_and_database_and_not_ours() {
    let owned = owned().await;
    let database = &owned.database.name;
    let mut connection = owned.database.connection().await;
    let alter = format!(
        "CREATE SCHEMA shop;
         ALTER DATABASE {database} SET search_path = shop, public;
         ALTER DATABASE {database} SET enable_hashjoin = on"
    );
    connection.execute(AssertSqlSafe(alter)).await.unwrap();
    // Sessions that were there before know nothing of it.
    owned.database.throw_out().await;
    eventually("the sessions are new", || async {
        owned.documents.register(&owned.held.name, 1).await.is_ok()
    })
    .await;
    for (setting, expected) in [
        ("search_path", "shop, public"),
        ("enable_seqscan", "on"),
        ("enable_hashjoin", "on"),
        ("enable_bitmapscan", "on"),
        ("transaction_isolation", "read committed"),
        ("synchronous_commit", "off"),
        ("statement_timeout", "30s"),
    ] {
        let seen = seen_by_a_statement(&owned, &format!("current_setting('{setting}')")).await;
        assert_eq!(seen, expected, "{setting}");
    }
    assert_eq!(seen_by_a_statement(&owned, "pg_typeof($1)").await, "json");
    assert_eq!(seen_by_a_statement(&owned, "pg_typeof($2)").await, "bigint");
}

#[tokio::test]
async fn a_table_that_is_locked_is_nobodys_fault() {
    let owned = owned().await;
    let mut other = owned.database.connection().await;
    let mut locking = other.begin().await.unwrap();
    locking.execute("LOCK TABLE public.sums").await.unwrap();
    let waiting = owned.run(1, SUM, 1);
    let freeing = async {
        until_locked(&owned.database).await;
        locking.rollback().await.unwrap();
    };
    let (done, ()) = soon("both end", async { tokio::join!(waiting, freeing) }).await;
    done.unwrap();
    assert_eq!(owned.found().await, (1, 1, 1));
    let mut locking = other.begin().await.unwrap();
    locking.execute("LOCK TABLE public.sums").await.unwrap();
    // For longer than the store waits for a lock.
    assert_eq!(owned.run(2, SUM, 1).await, Err(StoreError::Unavailable));
    locking.rollback().await.unwrap();
    owned.run(2, SUM, 1).await.unwrap();
    assert_eq!(owned.found().await, (2, 2, 2));
}

async fn until_locked(database: &Database) {
    eventually("the statement waits", || async {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
              WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(&mut database.connection().await)
        .await
        .unwrap();
        waiting == 1
    })
    .await;
}

#[tokio::test]
async fn a_statement_that_is_ended_for_its_time_is_one_that_failed() {
    let owned = owned().await;
    let mut watcher: PgConnection = owned.database.connection().await;
    let cancelling = async {
        eventually("the statement runs", || async {
            let running: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event = 'PgSleep'",
            )
            .fetch_one(&mut owned.database.connection().await)
            .await
            .unwrap();
            running == 1
        })
        .await;
        watcher
            .execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event = 'PgSleep'",
            )
            .await
            .unwrap();
    };
    let (ended, ()) = tokio::join!(owned.run(1, "SELECT pg_sleep(1000)", 0), cancelling);
    assert_eq!(sqlstate(&ended.unwrap_err()), "57014");
    assert_eq!(owned.found().await, (0, 0, 0));
}
