//! Commands in SQLite: recorded in the transaction of the group they belong to, found by name and
//! key, forgotten from the front of the table when they are old.

use std::collections::HashMap;

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::append::{FORGET_ROWS_MAX, json_text, number, unsigned};
use crate::{
    Appended, CommandKey, CommandName, GlobalPosition, Revision, Timestamp,
    plan::{self, CommandRow, REQUESTS_KEPT_MICROS, Request},
};

/// The recorded ones among the commands of `group`.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    group: &[Request],
) -> Result<HashMap<(CommandName, CommandKey), CommandRow>, sqlx::Error> {
    let mut recorded = HashMap::new();
    for (name, key) in plan::command_keys(group) {
        if let Some(row) = find(connection, name, key).await? {
            recorded.insert((name.clone(), key.clone()), row);
        }
    }
    Ok(recorded)
}

/// What is recorded under a command's name and key.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    name: &CommandName,
    key: &CommandKey,
) -> Result<Option<CommandRow>, sqlx::Error> {
    let row = sqlx::query(include_str!("sql/find_command.sql"))
        .bind(name.as_str())
        .bind(key.as_str())
        .fetch_optional(connection)
        .await?;
    row.map(|row| decode(&row, name, key)).transpose()
}

/// Records `commands`, and forgets a few old ones where there are any to record.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    commands: &[CommandRow],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    for row in commands {
        sqlx::query(include_str!("sql/insert_command.sql"))
            .bind(row.name.as_str())
            .bind(row.key.as_str())
            .bind(row.input.as_uuid())
            .bind(row.execution)
            .bind(row.appended.map(|appended| number(appended.revision.get())))
            .bind(row.appended.map(|appended| number(appended.position.get())))
            .bind(now.as_micros())
            .bind(json_text(&row.result))
            .execute(&mut *connection)
            .await?;
    }
    if !commands.is_empty() {
        sqlx::query(include_str!("sql/delete_commands.sql"))
            .bind(now.as_micros() - REQUESTS_KEPT_MICROS)
            .bind(FORGET_ROWS_MAX)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Columns of `find_command.sql`: input, execution, revision, position, result.
fn decode(
    row: &SqliteRow,
    name: &CommandName,
    key: &CommandKey,
) -> Result<CommandRow, sqlx::Error> {
    let revision: Option<i64> = row.try_get(2)?;
    let position: Option<i64> = row.try_get(3)?;
    let appended = revision.zip(position).map(|(revision, position)| Appended {
        revision: Revision::new(unsigned(revision)),
        position: GlobalPosition::new(unsigned(position)),
    });
    Ok(CommandRow {
        name: name.clone(),
        key: key.clone(),
        input: row.try_get::<Uuid, _>(0)?.into(),
        execution: row.try_get(1)?,
        result: row.try_get::<String, _>(4)?.into(),
        appended,
    })
}
