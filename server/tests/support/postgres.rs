//! A database of one test on the server that `TIDEWIRE_TEST_POSTGRES` names.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

/// An empty database, dropped with its test.
pub(crate) struct Database {
    server: String,
    name: String,
    pub(crate) url: String,
}

impl Database {
    pub(crate) fn create() -> Self {
        let server = std::env::var("TIDEWIRE_TEST_POSTGRES").unwrap_or_else(|_| {
            panic!(
                "TIDEWIRE_TEST_POSTGRES is not set: it is the URL of a PostgreSQL server under \
                 whose user tests make databases. `cargo xtask test` starts one and sets it."
            )
        });
        let name = format!("tidewire_test_{}", Uuid::new_v4().simple());
        execute(&server, format!("CREATE DATABASE {name}")).unwrap();
        let (place, options) = server.split_once('?').unwrap_or((&server, ""));
        let (place, _) = place.rsplit_once('/').unwrap();
        let url = format!("{place}/{name}?{options}");
        Self { server, name, url }
    }

    /// Runs a statement in the database.
    pub(crate) fn execute(&self, sql: &str) {
        execute(&self.url, sql.to_owned()).unwrap();
    }

    /// The one number that a query comes to.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        runtime().block_on(async {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
            let number = query.fetch_one(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            number
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = execute(&self.server, format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

fn execute(url: &str, sql: String) -> Result<(), sqlx::Error> {
    runtime().block_on(async {
        let mut connection = PgConnection::connect(url).await?;
        connection.execute(AssertSqlSafe(sql)).await?;
        connection.close().await
    })
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
