//! The plain upsert on SQLite: many rows a statement, one transaction a batch.

use std::path::Path;

use sqlx::{
    AssertSqlSafe, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{Plain, Row};

/// Rows of one statement.
const ROWS: usize = 500;

/// A table of keys and texts.
pub(crate) struct Table {
    connection: SqliteConnection,
}

impl Table {
    pub(crate) async fn open(path: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("it opens");
        let create = "CREATE TABLE plain (key TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID";
        sqlx::query(create).execute(&mut connection).await.expect("it is created");
        Self { connection }
    }
}

impl Plain for Table {
    async fn empty(&mut self) {
        sqlx::query("DELETE FROM plain").execute(&mut self.connection).await.expect("deleted");
    }

    async fn upsert(&mut self, rows: &[Row]) {
        let mut transaction = self.connection.begin().await.expect("it begins");
        for rows in rows.chunks(ROWS) {
            let values = vec!["(?, ?)"; rows.len()].join(", ");
            let statement = format!(
                "INSERT INTO plain (key, data) VALUES {values} \
                 ON CONFLICT (key) DO UPDATE SET data = excluded.data"
            );
            let mut query = sqlx::query(AssertSqlSafe(statement));
            for (key, text) in rows {
                query = query.bind(key).bind(text);
            }
            query.execute(&mut *transaction).await.expect("it is written");
        }
        transaction.commit().await.expect("it is committed");
    }
}
