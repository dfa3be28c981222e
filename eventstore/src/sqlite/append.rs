//! Commits groups to SQLite: one transaction a group, its rows in few statements of many rows.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sqlx::{
    AssertSqlSafe, Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions,
};

use super::{
    WriteTurns, commands,
    error::{away, commit_error},
};
use crate::{
    Appended, EventId, GlobalPosition, Payload, RecordedEvent, Revision, StreamName, Timestamp,
    plan::{self, LogState, Plan, REQUESTS_KEPT_MICROS, Request, RequestRow},
    writer::{Away, Backend, CommitError},
};

/// How many rows one INSERT takes, largest first. Each is prepared once; a group is cut into as
/// few of them as its size allows. 9 binds a row stay below SQLite's 32,766.
const CHUNK_ROWS: [usize; 4] = [512, 64, 8, 1];

/// At most so many old `requests` rows, and as many old `commands` rows, are deleted with one group
/// that adds to them.
pub(super) const FORGET_ROWS_MAX: i64 = 1000;

/// The writer's connection.
pub(super) struct SqliteBackend {
    connect: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    turns: WriteTurns,
    inserts: [Arc<str>; CHUNK_ROWS.len()],
}

impl SqliteBackend {
    pub(super) fn new(
        connection: SqliteConnection,
        connect: SqliteConnectOptions,
        turns: WriteTurns,
    ) -> Self {
        let inserts = CHUNK_ROWS.map(insert_events);
        Self { connect, connection: Some(connection), turns, inserts }
    }

    async fn write(
        connection: &mut SqliteConnection,
        inserts: &[Arc<str>],
        group: &[Request],
    ) -> Result<Plan, CommitError> {
        let mut transaction = connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(|error| CommitError::Away(away(&error)))?;
        let refused = |error: sqlx::Error| commit_error(&error);
        let state = load_state(&mut transaction, group).await.map_err(refused)?;
        let now = Timestamp::now();
        let plan = plan::plan(group, &state, now);
        if plan.is_empty() {
            // Nothing was written: how the transaction ends does not matter.
            let _ = transaction.rollback().await;
            return Ok(plan);
        }
        write_events(&mut transaction, inserts, &plan.events).await.map_err(refused)?;
        write_requests(&mut transaction, &plan.requests, now).await.map_err(refused)?;
        commands::write(&mut transaction, &plan.commands, now).await.map_err(refused)?;
        match transaction.commit().await {
            Ok(()) => Ok(plan),
            Err(error) => {
                tracing::warn!(%error, "commit failed");
                Err(CommitError::Unknown(Box::new(plan)))
            }
        }
    }
}

impl Backend for SqliteBackend {
    async fn commit(&mut self, group: &[Request]) -> Result<Plan, CommitError> {
        let Some(connection) = &mut self.connection else {
            return Err(CommitError::Away(Away("not connected".into())));
        };
        let turn = self.turns.take().await;
        let result = Self::write(connection, &self.inserts, group).await;
        drop(turn);
        if let Err(CommitError::Unknown(_) | CommitError::Away(_)) = &result {
            self.connection = None;
        }
        result
    }

    async fn resolve(&mut self, plan: &Plan) -> Result<bool, Away> {
        self.reconnect().await?;
        let Some(connection) = &mut self.connection else {
            return Err(Away("not connected".into()));
        };
        // Under the write lock nobody else is still committing.
        let found = async {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let found = is_recorded(&mut transaction, plan).await?;
            transaction.rollback().await?;
            Ok::<_, sqlx::Error>(found)
        };
        match found.await {
            Ok(found) => Ok(found),
            Err(error) => {
                self.connection = None;
                Err(away(&error))
            }
        }
    }

    async fn reconnect(&mut self) -> Result<(), Away> {
        if self.connection.is_none() {
            // A log that has vanished must not be replaced by an empty one.
            let connect = self.connect.clone().create_if_missing(false);
            let connected = SqliteConnection::connect_with(&connect).await;
            self.connection = Some(connected.map_err(|error| away(&error))?);
        }
        Ok(())
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the log's file was not closed in order");
        }
    }
}

/// Whether `plan` was recorded, which shows by any of its rows.
async fn is_recorded(connection: &mut SqliteConnection, plan: &Plan) -> Result<bool, sqlx::Error> {
    match (plan.events.first(), plan.commands.first()) {
        (Some(first), _) => {
            let found: i64 = sqlx::query_scalar(include_str!("sql/find_event.sql"))
                .bind(number(first.position.get()))
                .bind(first.id.as_uuid())
                .fetch_one(connection)
                .await?;
            Ok(found == 1)
        }
        (None, Some(first)) => {
            let found = commands::find(connection, &first.name, &first.key).await?;
            Ok(found.is_some_and(|found| found.execution == first.execution))
        }
        (None, None) => Ok(true),
    }
}

/// Loads what `group` depends on.
async fn load_state(
    connection: &mut SqliteConnection,
    group: &[Request],
) -> Result<LogState, sqlx::Error> {
    let head: i64 =
        sqlx::query_scalar(include_str!("sql/load_head.sql")).fetch_one(&mut *connection).await?;
    let streams = plan::streams(group);
    let names =
        serde_json::to_string(&streams).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let rows = sqlx::query(include_str!("sql/load_revisions.sql"))
        .bind(names)
        .fetch_all(&mut *connection)
        .await?;
    let mut revisions = HashMap::with_capacity(rows.len());
    let mut emptied = HashSet::new();
    for row in rows {
        let stream = recorded_stream(row.try_get(0)?)?;
        if row.try_get(2)? {
            emptied.insert(stream.clone());
        }
        revisions.insert(stream, Revision::new(unsigned(row.try_get(1)?)));
    }
    let ids = plan::client_ids(group);
    let recorded =
        if ids.is_empty() { HashMap::new() } else { load_requests(&mut *connection, &ids).await? };
    let commands = commands::load(connection, group).await?;
    let head = GlobalPosition::new(unsigned(head));
    Ok(LogState { head, revisions, emptied, recorded, commands })
}

async fn load_requests(
    connection: &mut SqliteConnection,
    ids: &[EventId],
) -> Result<HashMap<EventId, RequestRow>, sqlx::Error> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid().simple().to_string()).collect();
    let ids = serde_json::to_string(&ids).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let rows = sqlx::query(include_str!("sql/load_requests.sql"))
        .bind(ids)
        .fetch_all(&mut *connection)
        .await?;
    let mut recorded = HashMap::with_capacity(rows.len());
    for row in rows {
        let id = EventId::from(row.try_get::<uuid::Uuid, _>(0)?);
        let appended = Appended {
            revision: Revision::new(unsigned(row.try_get(4)?)),
            position: GlobalPosition::new(unsigned(row.try_get(5)?)),
        };
        let (place, events) = (row.try_get(2)?, row.try_get(3)?);
        let stream = recorded_stream(row.try_get(1)?)?;
        recorded.insert(id, RequestRow { stream, id, place, events, appended });
    }
    Ok(recorded)
}

async fn write_events(
    connection: &mut SqliteConnection,
    inserts: &[Arc<str>],
    mut events: &[RecordedEvent],
) -> Result<(), sqlx::Error> {
    for (rows, sql) in CHUNK_ROWS.iter().zip(inserts) {
        while let Some((chunk, rest)) = events.split_at_checked(*rows) {
            let mut insert = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
            for event in chunk {
                insert = bind_event(insert, event);
            }
            insert.execute(&mut *connection).await?;
            events = rest;
        }
    }
    Ok(())
}

type Insert<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

fn bind_event<'q>(insert: Insert<'q>, event: &'q RecordedEvent) -> Insert<'q> {
    let insert = insert
        .bind(number(event.position.get()))
        .bind(number(event.revision.get()))
        .bind(event.recorded_at.as_micros())
        .bind(event.id.as_uuid())
        .bind(event.stream.as_str())
        .bind(event.event_type.as_str());
    let insert = match &event.payload {
        Payload::Json(data) => insert.bind(json_text(data)).bind(None::<&str>),
        Payload::Binary { content_type, data } => insert.bind(&data[..]).bind(&**content_type),
        Payload::Erased | Payload::Removed => insert.bind("").bind(None::<&str>),
    };
    insert.bind(event.meta.as_deref().map(json_text))
}

/// The text of bytes that admission found to be JSON.
pub(super) fn json_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("admission lets only UTF-8 through")
}

async fn write_requests(
    connection: &mut SqliteConnection,
    requests: &[RequestRow],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    for row in requests {
        sqlx::query(include_str!("sql/insert_request.sql"))
            .bind(row.id.as_uuid())
            .bind(row.stream.as_str())
            .bind(row.place)
            .bind(row.events)
            .bind(number(row.appended.revision.get()))
            .bind(number(row.appended.position.get()))
            .bind(now.as_micros())
            .execute(&mut *connection)
            .await?;
    }
    if !requests.is_empty() {
        sqlx::query(include_str!("sql/delete_requests.sql"))
            .bind(now.as_micros() - REQUESTS_KEPT_MICROS)
            .bind(FORGET_ROWS_MAX)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The statement that inserts `rows` events, the columns bound in order, row by row.
fn insert_events(rows: usize) -> Arc<str> {
    let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?)"; rows].join(", ");
    let columns = "position, revision, recorded_at, id, stream, type, data, content_type, meta";
    format!("INSERT INTO events ({columns}) VALUES {values}").into()
}

fn recorded_stream(name: &str) -> Result<StreamName, sqlx::Error> {
    StreamName::recorded(name).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A position or revision for SQLite: below 2^53, so it fits.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that a constraint keeps from being negative.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
