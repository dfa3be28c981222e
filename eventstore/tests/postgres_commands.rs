//! Commands in PostgreSQL: the key, the result and the events are one transaction, whatever
//! becomes of the connection, and whoever else tries the same.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use sqlx::{Connection, Executor, PgConnection};
use support::{
    Database, append, event, eventually,
    link::{Fault, Link},
    soon, submit, whole_log,
};
use tidewire_eventstore::{
    Append, AppendError, CommandKey, CommandName, EventStore, Executed, Execution, InputDigest,
    postgres::{ListenMode, PostgresStore},
};

fn name() -> CommandName {
    CommandName::new("count").unwrap()
}

fn key(key: &str) -> CommandKey {
    CommandKey::new(key).unwrap()
}

fn command(of: &str, result: &str, append: Option<Append>) -> Execution {
    let (input, result) = (InputDigest::of(b"{}"), result.to_owned().into());
    Execution { name: name(), key: key(of), input, result, append }
}

async fn execute(store: &PostgresStore, of: Execution) -> Result<Executed, AppendError> {
    soon("an answer", store.execute(of)?).await
}

async fn store_through(link: &Link, database: &Database) -> Arc<PostgresStore> {
    let mut options = database.options();
    options.url = link.through(&database.url);
    options.listen = ListenMode::PollOnly;
    support::connect(options).await
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM tidewire.{table}"));
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_command_whose_answer_was_lost_is_found_with_events_and_without() {
    for fault in [Fault::LoseAnswer, Fault::LoseRequest, Fault::DelayRequest] {
        for has_events in [true, false] {
            let database = Database::create().await;
            let link = Link::to(&database.url).await;
            let store = store_through(&link, &database).await;
            submit(&*store, append("a-1", vec![event("0")])).await.unwrap();
            link.strike("cut here", fault);
            let events = || has_events.then(|| append("a-1", vec![event("1"), event("2")]));
            let first = execute(&store, command("k", "\"cut here\"", events())).await.unwrap();
            assert_eq!(link.struck(), 1, "the fault struck");
            // Told as its own, not as somebody else's who came first.
            assert!(!first.repeated, "{fault:?}");
            assert_eq!(first.appended.map(|at| at.position.get()), has_events.then_some(3));
            if fault == Fault::DelayRequest {
                soon("the delayed request", link.deliver()).await;
            }
            let again = execute(&store, command("k", "\"anew\"", events())).await.unwrap();
            assert_eq!(again, Executed { repeated: true, ..first });
            assert_eq!(whole_log(&*store).await.len(), if has_events { 3 } else { 1 });
            let mut connection = database.connection().await;
            assert_eq!(count(&mut connection, "commands").await, 1);
            store.close().await;
        }
    }
}

/// The rows are lost on the way, and before their writer can look another node records the same
/// command: what stands there is not the writer's own.
#[tokio::test]
async fn a_command_that_another_node_recorded_meanwhile_is_not_taken_for_ones_own() {
    let database = Database::create().await;
    let link = Link::to(&database.url).await;
    let store = store_through(&link, &database).await;
    submit(&*store, append("a-1", vec![event("0")])).await.unwrap();

    let mut rival = database.connection().await;
    let mut transaction = rival.begin().await.unwrap();
    transaction.execute("SELECT FROM tidewire.head FOR UPDATE").await.unwrap();
    link.strike("cut here", Fault::LoseRequest);
    let pending = store.execute(command("k", "\"cut here\"", None)).unwrap();
    eventually("the fault strikes", async || link.struck() == 1).await;
    let record = "INSERT INTO tidewire.commands (name, key, input, execution, recorded_at, result)
                  VALUES ('count', 'k', $1, gen_random_uuid(), clock_timestamp(), '\"rival\"')";
    sqlx::query(record)
        .bind(InputDigest::of(b"{}").as_uuid())
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();

    let done = soon("an answer", pending).await.unwrap();
    assert_eq!((done.result.as_ref(), done.repeated), (&b"\"rival\""[..], true));
    store.close().await;
}

/// Two nodes, forty commands, each sent to both at once: one effect and one result each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_execute_the_same_commands_agree() {
    const COMMANDS: usize = 40;
    let database = Database::create().await;
    let nodes = [database.store().await, database.store().await];
    let runs: Vec<_> = nodes
        .iter()
        .enumerate()
        .map(|(node, store)| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut results = Vec::new();
                for n in 0..COMMANDS {
                    let events = (n % 2 == 0).then(|| append("a-1", vec![event(n.to_string())]));
                    let one = command(&n.to_string(), &format!("[{n},{node}]"), events);
                    results.push(execute(&store, one).await.unwrap());
                }
                results
            })
        })
        .collect();
    let mut told = Vec::new();
    for run in runs {
        told.push(soon("a node", run).await.unwrap());
    }
    for (one, two) in told[0].iter().zip(&told[1]) {
        assert_eq!((&one.result, one.appended), (&two.result, two.appended));
        assert!(one.repeated != two.repeated, "one of them was first");
    }
    assert_eq!(whole_log(&*nodes[0]).await.len(), COMMANDS / 2);
    for store in nodes {
        store.close().await;
    }
}

/// Whatever stops the command's row stops its events too.
#[tokio::test]
async fn a_command_that_cannot_be_recorded_appends_nothing() {
    let database = Database::create().await;
    let store = database.store().await;
    let mut connection = database.connection().await;
    connection
        .execute("ALTER TABLE tidewire.commands ADD CONSTRAINT no_poison CHECK (key <> 'poison')")
        .await
        .unwrap();
    let events = |n: usize| Some(append("a-1", vec![event(n.to_string())]));
    let pending: Vec<_> = ["good-1", "poison", "good-2"]
        .iter()
        .enumerate()
        .map(|(n, of)| store.execute(command(of, "1", events(n))).unwrap())
        .collect();
    let mut codes = Vec::new();
    for pending in pending {
        codes.push(soon("an answer", pending).await.map_err(|error| error.code()).map(drop));
    }
    assert_eq!(codes, [Ok(()), Err("refused"), Ok(())]);
    assert_eq!(whole_log(&*store).await.len(), 2);
    assert_eq!(store.command_result(&name(), &key("poison")).await, Ok(None));
    store.close().await;
}

#[tokio::test]
async fn commands_are_forgotten_after_seven_days() {
    let database = Database::create().await;
    PostgresStore::migrate(&database.url).await.unwrap();
    let mut connection = database.connection().await;
    for (of, days) in [("old", "7 days 1 minute"), ("young", "6 days 23 hours")] {
        let insert =
            "INSERT INTO tidewire.commands (name, key, input, execution, recorded_at, result)
                      VALUES ('count', $1, $2, gen_random_uuid(),
                              clock_timestamp() - $3::text::interval, '1')";
        sqlx::query(insert)
            .bind(of)
            .bind(InputDigest::of(b"{}").as_uuid())
            .bind(days)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    // Housekeeping begins when a store is opened.
    let store = database.store().await;
    eventually("the old one is forgotten", async || {
        store.command_result(&name(), &key("old")).await.unwrap().is_none()
    })
    .await;
    assert!(store.command_result(&name(), &key("young")).await.unwrap().is_some());
    store.close().await;
}
