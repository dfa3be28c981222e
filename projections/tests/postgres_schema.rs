//! Every statement about documents in PostgreSQL is prepared against the real thing, and goes by
//! indexes.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../eventstore/tests/support/mod.rs"]
mod support;

use std::path::Path;

use sqlx::{Executor, SqlSafeStr};
use support::Database;
use tidewire_eventstore::postgres::{MigrationMode, OpenError, PostgresStore};
use tidewire_projections::{DocumentStore, PostgresDocuments, PostgresDocumentsOptions};

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let database = Database::create().await;
    PostgresStore::migrate(&database.url).await.unwrap();
    let mut connection = database.connection().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/documents/postgres/sql");
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
    assert!(count > 40, "only {count} statements found");
}

#[tokio::test]
async fn documents_can_be_opened_before_the_log_and_not_without_a_schema() {
    let database = Database::create().await;
    let mut options = PostgresDocumentsOptions::new(&database.url);
    options.migrations = MigrationMode::Require;
    let refused = PostgresDocuments::connect(options.clone()).await.map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::SchemaOld { needed: 7, .. }), "{refused}");
    let first = PostgresDocuments::connect(PostgresDocumentsOptions::new(&database.url)).await;
    first.unwrap().close().await;
    let documents = PostgresDocuments::connect(options).await.unwrap();
    assert_eq!(documents.statuses().await, Ok(vec![]));
    documents.close().await;
    database.store().await;
}

#[tokio::test]
async fn no_message_shows_a_password() {
    for url in [
        "postgres://me:hunter2@127.0.0.1:1/log",
        "postgres://me:hunter2@",
        "mysql://me:hunter2@h/d",
    ] {
        let mut options = PostgresDocumentsOptions::new(url);
        options.connect_timeout = std::time::Duration::from_secs(2);
        options.migrations = MigrationMode::Require;
        let shown = format!("{options:?}");
        let error = PostgresDocuments::connect(options).await.map(drop).unwrap_err();
        let shown = format!("{shown} {error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
