//! The plain upsert on PostgreSQL: arrays of keys and texts, one transaction a batch.

use std::sync::Arc;

use sqlx::{Connection as _, PgConnection};
use tidewire_eventstore::{
    EventStore,
    postgres::{PostgresOptions, PostgresStore},
};
use tidewire_projections::{DocumentStore, PostgresDocuments, PostgresDocumentsOptions};

use super::{Plain, Row};

pub(crate) async fn open(url: &str) -> (Arc<dyn EventStore>, Arc<dyn DocumentStore>) {
    let log = PostgresStore::connect(PostgresOptions::new(url)).await.expect("the log opens");
    let documents = PostgresDocuments::connect(PostgresDocumentsOptions::new(url)).await;
    (Arc::new(log), Arc::new(documents.expect("the documents open")))
}

/// A table of keys and texts.
pub(crate) struct Table {
    connection: PgConnection,
}

impl Table {
    pub(crate) async fn open(url: &str) -> Self {
        let mut connection = PgConnection::connect(url).await.expect("it answers");
        for statement in [
            "SET synchronous_commit = off",
            "DROP TABLE IF EXISTS plain",
            "CREATE TABLE plain (key text COLLATE \"C\" PRIMARY KEY, data json NOT NULL)",
        ] {
            sqlx::query(statement).execute(&mut connection).await.expect("it is done");
        }
        Self { connection }
    }
}

impl Plain for Table {
    async fn empty(&mut self) {
        sqlx::query("TRUNCATE plain").execute(&mut self.connection).await.expect("emptied");
    }

    async fn upsert(&mut self, rows: &[Row]) {
        let (keys, texts): (Vec<&str>, Vec<&str>) =
            rows.iter().map(|(key, text)| (key.as_str(), text.as_str())).unzip();
        let statement = "INSERT INTO plain (key, data) \
                         SELECT key, data::json FROM unnest($1::text[], $2::text[]) AS rows (key, data) \
                         ON CONFLICT (key) DO UPDATE SET data = excluded.data";
        let query = sqlx::query(statement).bind(keys).bind(texts);
        query.execute(&mut self.connection).await.expect("it is written");
    }
}
