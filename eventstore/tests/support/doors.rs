//! What the tests of the doors in SQL share: calling them as a program in another language would,
//! and reading their refusals.

use sqlx::{AssertSqlSafe, Executor, PgConnection, Row, postgres::PgDatabaseError};

/// What a refusal says to a program: SQLSTATE, and the stable code that is its DETAIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) sqlstate: String,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else { panic!("not refused, but {error}") };
        let postgres = database.downcast_ref::<PgDatabaseError>();
        Self {
            sqlstate: postgres.code().into(),
            code: postgres.detail().unwrap_or_default().into(),
            message: postgres.message().into(),
        }
    }
}

/// Runs one or more statements.
pub(crate) async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), Refusal> {
    connection.execute(AssertSqlSafe(sql.to_owned())).await?;
    Ok(())
}

/// One value as text.
pub(crate) async fn text(connection: &mut PgConnection, sql: &str) -> String {
    let rows = connection.fetch_one(AssertSqlSafe(format!("SELECT ({sql})::text"))).await;
    rows.unwrap().get(0)
}

/// `tidewire.append`: position and revision.
pub(crate) async fn append(
    connection: &mut PgConnection,
    stream: &str,
    events: &str,
    expected: &str,
) -> Result<(i64, i64), Refusal> {
    let row = sqlx::query("SELECT position, revision FROM tidewire.append($1, $2::text::json, $3)")
        .bind(stream)
        .bind(events)
        .bind(expected)
        .fetch_one(connection)
        .await?;
    Ok((row.get(0), row.get(1)))
}

/// `tidewire.enqueue`.
pub(crate) async fn enqueue(
    connection: &mut PgConnection,
    stream: &str,
    events: &str,
) -> Result<(), Refusal> {
    sqlx::query("SELECT tidewire.enqueue($1, $2::text::json)")
        .bind(stream)
        .bind(events)
        .execute(connection)
        .await?;
    Ok(())
}

/// An event whose payload is `data`.
pub(crate) fn counted(data: impl std::fmt::Display) -> String {
    format!(r#"{{"type":"Counted","data":{data}}}"#)
}

/// Numbers that a seed decides (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides
    }
}
