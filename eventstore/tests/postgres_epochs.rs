//! Epochs: one in a new log, another when an operator says so or when the log is met on another
//! server.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sqlx::Executor;
use support::{Database, append, event, submit};
use tidewire_eventstore::{EventStore, GlobalPosition};

#[tokio::test]
async fn a_new_log_has_one_epoch_and_keeps_it() {
    let database = Database::create().await;
    let store = database.store().await;
    let first = store.head().await.unwrap();
    assert_eq!(first.position, GlobalPosition::START);
    assert_eq!(first.epochs.len(), 1);
    assert_eq!(first.epochs[0].first_position, GlobalPosition::new(1));
    store.close().await;
    let store = database.store().await;
    assert_eq!(store.head().await.unwrap(), first);
    store.close().await;
}

#[tokio::test]
async fn an_epoch_begun_by_an_operator_begins_after_the_head() {
    let database = Database::create().await;
    let store = database.store().await;
    submit(&*store, append("a-1", vec![event("1"), event("2")])).await.unwrap();
    let begun = store.begin_epoch().await.unwrap();
    assert_eq!(begun.first_position, GlobalPosition::new(3));
    let head = store.head().await.unwrap();
    assert_eq!(head.epochs.len(), 2);
    assert_eq!(head.epochs.last(), Some(&begun));
    store.close().await;
}

#[tokio::test]
async fn a_log_met_on_another_server_begins_a_new_epoch_once() {
    for change in ["system_identifier = system_identifier + 1", "timeline = timeline + 1"] {
        let database = Database::create().await;
        let store = database.store().await;
        submit(&*store, append("a-1", vec![event("1")])).await.unwrap();
        store.close().await;
        let mut connection = database.connection().await;
        let sql = format!("UPDATE tidewire.epochs SET {change}");
        connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        for _ in 0..2 {
            let store = database.store().await;
            let epochs = store.head().await.unwrap().epochs;
            assert_eq!(epochs.len(), 2, "{change}");
            assert_eq!(epochs[1].first_position, GlobalPosition::new(2), "{change}");
            store.close().await;
        }
    }
}

#[tokio::test]
async fn a_role_that_may_not_ask_for_the_server_s_identity_can_serve_all_the_same() {
    let database = Database::create().await;
    database.store().await.close().await;
    let mut connection = database.connection().await;
    connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC").await.unwrap();
    let role = format!("{}_role", database.name);
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret';
         GRANT USAGE ON SCHEMA tidewire TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tidewire TO {role}"
    );
    connection.execute(sqlx::AssertSqlSafe(grants)).await.unwrap();
    let mut options = database.options();
    let end = options.url.find("://").unwrap() + 3;
    let host = options.url[end..].rsplit_once('@').map_or(&options.url[end..], |(_, host)| host);
    options.url = format!("postgres://{role}:secret@{host}");
    let store = support::connect(options).await;
    submit(&*store, append("a-1", vec![event("1")])).await.unwrap();
    assert_eq!(store.head().await.unwrap().epochs.len(), 1);
    store.close().await;
    connection
        .execute(sqlx::AssertSqlSafe(format!("DROP OWNED BY {role}; DROP ROLE {role}")))
        .await
        .unwrap();
}
