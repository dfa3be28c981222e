//! Migrations: the SQL files of `migrations/postgres`, embedded, applied in order, each once.
//!
//! They are recorded in `tidewire.migrations`, out of the way of whatever migrates the
//! application's own tables. All that is pending is applied in one transaction under an advisory
//! lock, so that any number of nodes may start at once. They only go forward; a schema one
//! migration newer than the program is tolerated, so that nodes can be replaced one by one.

use sqlx::{Connection, PgConnection};

use super::{OpenError, fault::reason};

/// The key of the lock that migrating nodes take: `tidewire` in ASCII.
const LOCK: i64 = 0x7469_6465_7769_7265;

/// How many migrations newer than the program a schema may be.
const NEWER_MAX: i32 = 1;

struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

macro_rules! migration {
    ($version:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../migrations/postgres/", $name, ".sql")),
        }
    };
}

/// Every migration, oldest first. A released one never changes.
const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_log"),
    migration!(2, "0002_append_group"),
    migration!(3, "0003_consumers"),
    migration!(4, "0004_doors"),
    migration!(5, "0005_retention"),
    migration!(6, "0006_commands"),
    migration!(7, "0007_projections"),
];

/// The last migration that this program knows.
const KNOWN: i32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// Applies what is pending.
pub(super) async fn apply(connection: &mut PgConnection) -> Result<(), OpenError> {
    let applied = applied_versions(connection).await?;
    if check(&applied)? == Schema::Current {
        return Ok(());
    }
    let mut transaction = connection.begin().await.map_err(refused)?;
    // Another node may be migrating, for as long as it takes.
    sqlx::raw_sql("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
        .execute(&mut *transaction)
        .await
        .map_err(refused)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(refused)?;
    sqlx::raw_sql(include_str!("sql/create_migrations.sql"))
        .execute(&mut *transaction)
        .await
        .map_err(refused)?;
    let applied = applied_versions(&mut transaction).await?;
    check(&applied)?;
    let last = applied.last().map_or(0, |last| last.version);
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > last) {
        sqlx::raw_sql(migration.sql).execute(&mut *transaction).await.map_err(refused)?;
        sqlx::query(include_str!("sql/insert_migration.sql"))
            .bind(migration.version)
            .bind(migration.name)
            .bind(content(migration))
            .execute(&mut *transaction)
            .await
            .map_err(refused)?;
        tracing::info!(version = migration.version, name = migration.name, "migration applied");
    }
    transaction.commit().await.map_err(refused)
}

/// Makes sure that nothing is pending.
pub(super) async fn require(connection: &mut PgConnection) -> Result<(), OpenError> {
    let applied = applied_versions(connection).await?;
    match check(&applied)? {
        Schema::Current => Ok(()),
        Schema::Old { found } => Err(OpenError::SchemaOld { found, needed: KNOWN }),
    }
}

struct Applied {
    version: i32,
    same: bool,
}

#[derive(PartialEq, Eq)]
enum Schema {
    Current,
    Old { found: i32 },
}

/// What was applied, oldest first, each compared with the program's own.
async fn applied_versions(connection: &mut PgConnection) -> Result<Vec<Applied>, OpenError> {
    let exists: bool = sqlx::query_scalar(include_str!("sql/find_migrations_table.sql"))
        .fetch_one(&mut *connection)
        .await
        .map_err(refused)?;
    if !exists {
        return Ok(Vec::new());
    }
    let (versions, contents): (Vec<i32>, Vec<String>) =
        MIGRATIONS.iter().map(|migration| (migration.version, content(migration))).unzip();
    let rows: Vec<(i32, Option<bool>)> = sqlx::query_as(include_str!("sql/read_migrations.sql"))
        .bind(versions)
        .bind(contents)
        .fetch_all(connection)
        .await
        .map_err(refused)?;
    let applied =
        |(version, same): (i32, Option<bool>)| Applied { version, same: same != Some(false) };
    Ok(rows.into_iter().map(applied).collect())
}

fn check(applied: &[Applied]) -> Result<Schema, OpenError> {
    if let Some(differs) = applied.iter().find(|applied| !applied.same) {
        return Err(OpenError::SchemaDiffers { version: differs.version });
    }
    let found = applied.last().map_or(0, |last| last.version);
    if found > KNOWN + NEWER_MAX {
        return Err(OpenError::SchemaNew { found, known: KNOWN });
    }
    Ok(if found < KNOWN { Schema::Old { found } } else { Schema::Current })
}

/// The file, with the line ends that it has in the repository.
fn content(migration: &Migration) -> String {
    migration.sql.replace("\r\n", "\n")
}

fn refused(error: sqlx::Error) -> OpenError {
    OpenError::Refused { reason: reason(&error) }
}
