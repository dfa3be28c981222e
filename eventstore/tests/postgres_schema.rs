//! The schema: migrations by any number of nodes at once, and every statement prepared against
//! the real thing.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use sqlx::{Executor, SqlSafeStr};
use support::{Database, append, event, submit};
use tidewire_eventstore::{
    EventStore,
    postgres::{MigrationMode, OpenError, PostgresStore},
};

#[tokio::test]
async fn many_nodes_may_start_at_once_on_an_empty_database() {
    let database = Database::create().await;
    let nodes: Vec<_> =
        (0..6).map(|_| tokio::spawn(PostgresStore::connect(database.options()))).collect();
    let mut epochs = Vec::new();
    for node in nodes {
        let store = support::soon("a node starts", node).await.unwrap().unwrap();
        epochs.push(store.head().await.unwrap().epochs);
        store.close().await;
    }
    assert!(epochs.windows(2).all(|pair| pair[0] == pair[1]), "{epochs:?}");
    assert_eq!(epochs[0].len(), 1, "one epoch, whoever came first");
    let mut connection = database.connection().await;
    let versions: Vec<i32> =
        sqlx::query_scalar("SELECT version FROM tidewire.migrations ORDER BY version")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert!(versions.starts_with(&[1, 2]), "{versions:?}");
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
}

#[tokio::test]
async fn a_node_that_must_not_migrate_says_what_is_missing() {
    let database = Database::create().await;
    let mut options = database.options();
    options.migrations = MigrationMode::Require;
    let refused = PostgresStore::connect(options.clone()).await.map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::SchemaOld { found: 0, .. }), "{refused}");
    PostgresStore::migrate(&database.url).await.unwrap();
    PostgresStore::migrate(&database.url).await.unwrap();
    PostgresStore::connect(options).await.unwrap().close().await;
}

#[tokio::test]
async fn a_schema_one_newer_is_served_and_two_newer_is_not() {
    let database = Database::create().await;
    PostgresStore::migrate(&database.url).await.unwrap();
    let mut connection = database.connection().await;
    let add = "INSERT INTO tidewire.migrations (version, name, checksum)
               SELECT max(version) + 1, 'to come', '' FROM tidewire.migrations";
    connection.execute(add).await.unwrap();
    let store = database.store().await;
    submit(&*store, append("a-1", vec![event("1")])).await.unwrap();
    store.close().await;
    connection.execute(add).await.unwrap();
    let refused = PostgresStore::connect(database.options()).await.map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::SchemaNew { .. }), "{refused}");
}

#[tokio::test]
async fn a_migration_applied_with_other_content_is_noticed() {
    let database = Database::create().await;
    PostgresStore::migrate(&database.url).await.unwrap();
    let mut connection = database.connection().await;
    let change = "UPDATE tidewire.migrations SET checksum = sha256('other') WHERE version = 1";
    connection.execute(change).await.unwrap();
    let refused = PostgresStore::connect(database.options()).await.map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::SchemaDiffers { version: 1 }), "{refused}");
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let database = Database::create().await;
    PostgresStore::migrate(&database.url).await.unwrap();
    let mut connection = database.connection().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgres/sql");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("-- "), "{} says what it is for", path.display());
        for note in ["-- Binds: ", "Lock: ", "Index: "] {
            assert!(text.contains(note), "{} has no {note:?}", path.display());
        }
        let code: Vec<&str> =
            text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        for statement in code.join("\n").split(';').filter(|text| !text.trim().is_empty()) {
            let statement = sqlx::AssertSqlSafe(statement.to_owned()).into_sql_str();
            let prepared = connection.prepare(statement).await;
            assert!(prepared.is_ok(), "{}: {:?}", path.display(), prepared.err());
            count += 1;
        }
    }
    assert!(count > 20, "only {count} statements found");
}

#[tokio::test]
async fn a_database_that_cannot_hold_a_log_is_refused() {
    let server = support::server_url();
    let database = Database::create().await;
    let latin = format!("{}_latin", database.name);
    database
        .outside(&format!(
            "CREATE DATABASE {latin} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
        ))
        .await;
    let url = support::on_database(&server, &latin);
    let refused = PostgresStore::migrate(&url).await.unwrap_err();
    database.outside(&format!("DROP DATABASE {latin}")).await;
    assert!(matches!(refused, OpenError::Unsuitable { .. }), "{refused}");
}

#[tokio::test]
async fn no_message_shows_a_password() {
    let database = Database::create().await;
    for url in [
        "postgres://me:hunter2@127.0.0.1:1/log",
        "postgres://me:hunter2@127.0.0.1:port/log",
        "postgres://me:hunter2@",
        "mysql://me:hunter2@127.0.0.1/log",
        "me:hunter2",
    ] {
        let mut options = database.options();
        options.url = url.into();
        options.listen_url = Some(url.into());
        options.connect_timeout = std::time::Duration::from_secs(2);
        let shown = format!("{options:?}");
        let error = PostgresStore::connect(options).await.map(drop).unwrap_err();
        let shown = format!("{shown} {error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
