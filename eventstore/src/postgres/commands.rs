//! Commands in PostgreSQL: recorded by the statement that appends their group, and found by name
//! and key.

use std::collections::HashMap;

use sqlx::{
    PgConnection, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;

use super::{connect::Server, fault::Fault, wire::RawJson};
use crate::{
    Appended, CommandKey, CommandName, GlobalPosition, Revision,
    plan::{CommandRow, Plan},
};

const FIND_COMMANDS: &str = include_str!("sql/find_commands.sql");
const FIND_EXECUTION: &str = include_str!("sql/find_execution.sql");

/// The recorded ones among `wanted`.
pub(super) async fn find(
    connection: &mut PgConnection,
    server: &Server,
    wanted: &[(&CommandName, &CommandKey)],
) -> Result<HashMap<(CommandName, CommandKey), CommandRow>, Fault> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let (names, keys): (Vec<&str>, Vec<&str>) =
        wanted.iter().map(|(name, key)| (name.as_str(), key.as_str())).unzip();
    let query = sqlx::query(FIND_COMMANDS).bind(names).bind(keys);
    let rows = server.within(query.fetch_all(connection)).await?;
    let mut recorded = HashMap::with_capacity(rows.len());
    for row in &rows {
        let row = decode(row)?;
        recorded.insert((row.name.clone(), row.key.clone()), row);
    }
    Ok(recorded)
}

/// Whether `command` was recorded by the very execution that it is of.
pub(super) async fn is_recorded(
    connection: &mut PgConnection,
    server: &Server,
    command: &CommandRow,
) -> Result<bool, Fault> {
    let find = sqlx::query_scalar(FIND_EXECUTION)
        .bind(command.name.as_str())
        .bind(command.key.as_str())
        .bind(command.execution);
    server.within(find.fetch_one(connection)).await
}

fn decode(row: &PgRow) -> Result<CommandRow, Fault> {
    let corrupt = |error: String| Fault::Refused(format!("a recorded command: {error}"));
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    let revision: Option<i64> = row.try_get("revision")?;
    let position: Option<i64> = row.try_get("position")?;
    let appended = revision.zip(position).map(|(revision, position)| Appended {
        revision: Revision::new(number(revision)),
        position: GlobalPosition::new(number(position)),
    });
    Ok(CommandRow {
        name: CommandName::recorded(row.try_get("name")?).map_err(|e| corrupt(e.to_string()))?,
        key: CommandKey::recorded(row.try_get("key")?).map_err(|e| corrupt(e.to_string()))?,
        input: row.try_get::<Uuid, _>("input")?.into(),
        execution: row.try_get::<Uuid, _>("execution")?,
        result: row.try_get::<String, _>("result")?.into(),
        appended,
    })
}

/// A plan's commands as binds: one array a column.
pub(super) struct Columns<'a> {
    names: Vec<&'a str>,
    keys: Vec<&'a str>,
    inputs: Vec<Uuid>,
    executions: Vec<Uuid>,
    revisions: Vec<Option<i64>>,
    positions: Vec<Option<i64>>,
    results: Vec<RawJson<'a>>,
}

impl<'a> Columns<'a> {
    /// The columns of the plan's commands. `None` where it has none.
    pub(super) fn of(plan: &'a Plan) -> Option<Self> {
        let commands = &plan.commands;
        if commands.is_empty() {
            return None;
        }
        // Positions and revisions are never beyond `NUMBER_MAX`.
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let appended = || commands.iter().map(|row| row.appended);
        Some(Self {
            names: commands.iter().map(|row| row.name.as_str()).collect(),
            keys: commands.iter().map(|row| row.key.as_str()).collect(),
            inputs: commands.iter().map(|row| row.input.as_uuid()).collect(),
            executions: commands.iter().map(|row| row.execution).collect(),
            revisions: appended().map(|at| at.map(|at| signed(at.revision.get()))).collect(),
            positions: appended().map(|at| at.map(|at| signed(at.position.get()))).collect(),
            results: commands.iter().map(|row| RawJson(&row.result)).collect(),
        })
    }

    /// Binds the columns behind those of the group.
    pub(super) fn bind(
        self,
        query: Query<'a, Postgres, PgArguments>,
    ) -> Query<'a, Postgres, PgArguments> {
        query
            .bind(self.names)
            .bind(self.keys)
            .bind(self.inputs)
            .bind(self.executions)
            .bind(self.revisions)
            .bind(self.positions)
            .bind(self.results)
    }
}
