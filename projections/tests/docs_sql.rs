//! The SQL projection of `docs/sql.md` does what it says: its statements are run as they stand
//! there, by the runner, over a log in the same database.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../eventstore/tests/support/mod.rs"]
mod support;

use std::{sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use support::{Database, eventually, soon, submit};
use tidewire_eventstore::{
    Append, Category, EventStore, EventType, ExpectedRevision, GlobalPosition, NewEvent,
    ProjectionName, StreamName, Target,
};
use tidewire_projections::{
    Definition, DocumentStore, OnPoison, Policy, PostgresDocuments, PostgresDocumentsOptions,
    ProjectionState, Projections, SqlProjection, SqlStatements, Watched, documents::Wish,
};
use tokio::runtime::Handle;

const SOON: Duration = Duration::from_secs(30);

/// The blocks of the page's projection: tables, `apply`, `reset`.
fn blocks() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sql.md");
    let docs = std::fs::read_to_string(path).unwrap();
    docs.split("```pgsql\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

fn definition(version: u32) -> Definition {
    Definition {
        name: ProjectionName::new("account-balances").unwrap(),
        version,
        target: Target::Category(Category::new("account").unwrap()),
        types: vec![EventType::new("Deposited").unwrap(), EventType::new("Withdrawn").unwrap()],
        fields: vec![],
        indexes: vec![],
    }
}

struct World {
    database: Database,
    log: Arc<dyn EventStore>,
    documents: Arc<PostgresDocuments>,
    connection: PgConnection,
}

impl World {
    async fn new() -> Self {
        let database = Database::create().await;
        let log = database.store().await;
        let options = PostgresDocumentsOptions::new(&database.url);
        let documents = Arc::new(PostgresDocuments::connect(options).await.unwrap());
        let mut connection = database.connection().await;
        let [tables, _, _] = &blocks()[..] else { panic!("tables, apply and reset") };
        connection.execute(AssertSqlSafe(tables.clone())).await.unwrap();
        Self { database, log, documents, connection }
    }

    async fn run(&self, statements: SqlStatements, policy: Policy) -> (Projections, Watched) {
        let projection = SqlProjection::new(definition(1), statements).unwrap();
        let documents: Arc<dyn DocumentStore> = self.documents.clone();
        let projections = Projections::builder(Arc::clone(&self.log), documents, "node-1")
            .projection(Arc::new(projection), policy)
            .start(&Handle::current())
            .await
            .unwrap();
        let watched = projections.get("account-balances").unwrap();
        (projections, watched)
    }

    async fn append(&self, stream: &str, event_type: &str, data: &str) -> GlobalPosition {
        let append = Append {
            stream: StreamName::new(stream).unwrap(),
            expected: ExpectedRevision::Any,
            events: vec![NewEvent::json(EventType::new(event_type).unwrap(), data.to_owned())],
        };
        submit(&*self.log, append).await.unwrap().position
    }

    async fn balances(&mut self) -> Vec<(String, i64)> {
        sqlx::query_as("SELECT account, cents FROM balances ORDER BY account")
            .fetch_all(&mut self.connection)
            .await
            .unwrap()
    }

    async fn rows(&mut self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM account_balances")
            .fetch_one(&mut self.connection)
            .await
            .unwrap()
    }

    async fn close(self, projections: Projections) {
        projections.close().await;
        self.documents.close().await;
        self.log.close().await;
        drop(self.database);
    }
}

fn statements() -> SqlStatements {
    let [_, apply, reset] = &blocks()[..] else { panic!("tables, apply and reset") };
    SqlStatements { apply: apply.as_str().into(), reset: Some(reset.as_str().into()) }
}

fn expected(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|(account, cents)| ((*account).into(), *cents)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balances_are_what_the_log_says_before_and_after_a_rebuild() {
    let mut world = World::new().await;
    for n in 0..20 {
        world.append("account-1", "Deposited", &format!(r#"{{"cents":{n}}}"#)).await;
    }
    let (projections, watched) = world.run(statements(), Policy::default()).await;
    world.append("account-2", "Deposited", r#"{"cents":500}"#).await;
    world.append("account-2", "Renamed", r#"{"cents":"none"}"#).await;
    let last = world.append("account-2", "Withdrawn", r#"{"cents":200}"#).await;
    watched.wait(last, SOON).await.unwrap();
    let balances = expected(&[("account-1", 190), ("account-2", 300)]);
    assert_eq!(world.balances().await, balances);

    let first = watched.reached().generation;
    watched.wish(Wish::Rebuild).await.unwrap();
    eventually("the rebuild ends", || async { watched.reached().generation != first }).await;
    assert_eq!(world.balances().await, balances);
    assert_eq!(world.rows().await, 4, "those of before stay until the next generation begins");
    let second = watched.reached().generation;
    watched.wish(Wish::Rebuild).await.unwrap();
    eventually("the rebuild ends", || async { watched.reached().generation != second }).await;
    assert_eq!(world.balances().await, balances);
    assert_eq!(world.rows().await, 4, "the first ones are gone");
    world.close(projections).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_bad_event_of_many_is_found_and_parked() {
    let mut world = World::new().await;
    for n in 0..50 {
        world.append("account-1", "Deposited", &format!(r#"{{"cents":{n}}}"#)).await;
    }
    let bad = world.append("account-1", "Deposited", r#"{"cents":"much"}"#).await;
    let last = world.append("account-1", "Deposited", r#"{"cents":7}"#).await;
    let policy = Policy { on_poison: OnPoison::Park, ..Policy::default() };
    let (projections, watched) = world.run(statements(), policy).await;
    soon("the projection goes on", watched.wait(last, SOON)).await.unwrap();
    assert_eq!(world.balances().await, expected(&[("account-1", 1225 + 7)]));
    let generation = watched.reached().generation;
    let parked = world.documents.parked(generation, GlobalPosition::START, 10).await.unwrap();
    assert_eq!(parked.iter().map(|parked| parked.position).collect::<Vec<_>>(), [bad]);
    assert!(parked[0].reason.contains("22P02"), "{}", parked[0].reason);
    world.close(projections).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_projection_stops_at_a_bad_event_unless_told_otherwise() {
    let mut world = World::new().await;
    world.append("account-1", "Deposited", r#"{"cents":1}"#).await;
    let bad = world.append("account-1", "Deposited", r#"{"cents":"much"}"#).await;
    // The log goes on with what is none of the projection's.
    world.append("order-1", "Placed", "{}").await;
    let (projections, watched) = world.run(statements(), Policy::default()).await;
    eventually("the projection stops", || async {
        watched.status().await.unwrap().status.active.stopped.is_some()
    })
    .await;
    let stopped = watched.status().await.unwrap().status.active.stopped.unwrap();
    assert_eq!(stopped.position, Some(bad), "{stopped:?}");
    assert_eq!(world.balances().await, expected(&[("account-1", 1)]));
    world.close(projections).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_cannot_run_parks_nothing() {
    let world = World::new().await;
    world.append("account-1", "Deposited", r#"{"cents":1}"#).await;
    let nowhere = SqlStatements { apply: "INSERT INTO nowhere SELECT $2".into(), reset: None };
    let policy = Policy { on_poison: OnPoison::Park, ..Policy::default() };
    let (projections, watched) = world.run(nowhere, policy).await;
    eventually("the projection stops", || async {
        watched.status().await.unwrap().status.active.stopped.is_some()
    })
    .await;
    let status = watched.status().await.unwrap();
    assert_eq!(status.state, ProjectionState::Stopped);
    let stopped = status.status.active.stopped.unwrap();
    assert_eq!(stopped.position, None);
    assert!(stopped.reason.contains("42P01"), "{}", stopped.reason);
    assert_eq!(status.status.active.parked, 0);
    world.close(projections).await;
}
