//! Brings a log's file to the schema that this program knows.
//!
//! Migrations are numbered, forward-only, and recorded in `tidewire_migrations`. Each runs under
//! SQLite's write lock together with its record, so several processes may start at once. A file
//! one version newer is used as it is: migrations expand before they contract.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{
    Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use uuid::Uuid;

use super::error::{OpenError, is_busy};
use crate::Timestamp;

/// One step of the schema.
struct Migration {
    version: u32,
    name: &'static str,
    sql: &'static str,
}

/// All steps, oldest first.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "log",
        sql: include_str!("../../../migrations/sqlite/0001_log.sql"),
    },
    Migration {
        version: 3,
        name: "consumers",
        sql: include_str!("../../../migrations/sqlite/0003_consumers.sql"),
    },
    Migration {
        version: 5,
        name: "retention",
        sql: include_str!("../../../migrations/sqlite/0005_retention.sql"),
    },
    Migration {
        version: 6,
        name: "commands",
        sql: include_str!("../../../migrations/sqlite/0006_commands.sql"),
    },
    Migration {
        version: 7,
        name: "projections",
        sql: include_str!("../../../migrations/sqlite/0007_projections.sql"),
    },
];

/// Connects for writing and makes sure that the file is in WAL mode.
///
/// Changing the mode needs the file for itself and does not wait for others by itself.
pub(super) async fn open(
    connect: &SqliteConnectOptions,
    path: &Path,
    patience: Duration,
) -> Result<SqliteConnection, OpenError> {
    let connect = connect.clone().journal_mode(SqliteJournalMode::Wal);
    let give_up_at = Instant::now() + patience;
    loop {
        match SqliteConnection::connect_with(&connect).await {
            Ok(connection) => return Ok(connection),
            Err(error) if is_busy(&error) && Instant::now() < give_up_at => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(unusable(path, &error)),
        }
    }
}

/// Applies what is missing, and gives a new log its first epoch.
pub(super) async fn run(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let found = apply(connection, MIGRATIONS).await.map_err(|error| unusable(path, &error))?;
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    if found > known + 1 {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known });
    }
    Ok(())
}

/// Applies what is missing of `migrations` and returns the version that the file then has.
async fn apply(
    connection: &mut SqliteConnection,
    migrations: &[Migration],
) -> Result<u32, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS tidewire_migrations (
            version    INTEGER NOT NULL PRIMARY KEY,
            name       TEXT    NOT NULL,
            applied_at INTEGER NOT NULL
        ) STRICT",
    )
    .execute(&mut *transaction)
    .await?;
    let mut version: u32 =
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM tidewire_migrations")
            .fetch_one(&mut *transaction)
            .await?;
    for migration in migrations.iter().filter(|migration| migration.version > version) {
        sqlx::raw_sql(migration.sql).execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO tidewire_migrations (version, name, applied_at) VALUES (?, ?, ?)")
            .bind(migration.version)
            .bind(migration.name)
            .bind(Timestamp::now().as_micros())
            .execute(&mut *transaction)
            .await?;
    }
    version = version.max(migrations.last().map_or(0, |migration| migration.version));
    sqlx::query(include_str!("sql/insert_first_epoch.sql"))
        .bind(Uuid::new_v4())
        .bind(Timestamp::now().as_micros())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(version)
}

fn unusable(path: &Path, error: &sqlx::Error) -> OpenError {
    OpenError::File { path: path.to_owned(), reason: error.to_string() }
}
