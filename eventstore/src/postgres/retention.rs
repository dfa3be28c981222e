//! Removes events from PostgreSQL: each batch one call of a function that holds the append lock, on
//! a connection of its own, with pauses in between.
//!
//! What is removed stays in the table's files as dead rows until VACUUM has been there, and in the
//! write-ahead log for as long as that is kept.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool, Row};
use tokio::time::{Instant, sleep};

use super::{connect::Server, fault::Fault, fault::reason, wire::Moment};
use crate::{
    Appended, EventId, EventRef, GlobalPosition, NUMBER_MAX, ReadError, Removal, RemoveError,
    Removed, Revision, Target, Timestamp,
    removal::{BATCH_EVENTS, older_than, read_instead},
};

const ERASE_EVENT: &str = include_str!("sql/erase_event.sql");
const FIND_POSITION: &str = include_str!("sql/find_position.sql");
const FIND_REMOVED: &str = include_str!("sql/find_removed.sql");
const FIND_REMOVED_OF_CATEGORY: &str = include_str!("sql/find_removed_of_category.sql");
const FIND_REMOVED_OF_STREAM: &str = include_str!("sql/find_removed_of_stream.sql");
const NOTIFY_HEAD: &str = include_str!("sql/notify_head.sql");
const READ_SIZES: &str = include_str!("sql/read_sizes.sql");
const REMOVE_EVENTS: &str = include_str!("sql/remove_events.sql");

/// Events of a category that are looked at together when its size is measured.
const SIZES_PAGE: i64 = 2000;

/// What batches are taken from, as the function `remove_events` is told it.
#[derive(Default)]
struct Source {
    stream: Option<String>,
    before_revision: Option<i64>,
    category: Option<String>,
    up_to: Option<i64>,
    recorded_before: Option<Moment>,
}

/// Removes, or erases.
pub(super) async fn remove(server: &Server, removal: Removal) -> Result<Removed, RemoveError> {
    let mut connection = server.connect().await.map_err(failed)?;
    let everything = Some(number(NUMBER_MAX) + 1);
    let of_stream = |stream: crate::StreamName, before_revision| Source {
        stream: Some(stream.as_str().to_owned()),
        before_revision,
        ..Source::default()
    };
    let source = match removal {
        Removal::Erase(event) => return erase(&mut connection, server, event).await,
        Removal::Delete { stream } => of_stream(stream, everything),
        Removal::Truncate { stream, before } => of_stream(stream, Some(number(before.get()))),
        Removal::Older { category, than } => Source {
            category: Some(category.as_str().to_owned()),
            up_to: everything,
            recorded_before: Some(Moment(older_than(than))),
            ..Source::default()
        },
        Removal::Beyond { category, bytes } => {
            let category = category.as_str().to_owned();
            let beyond = first_beyond(&mut connection, server, &category, bytes).await;
            let Some(up_to) = beyond.map_err(failed)? else { return Ok(Removed::default()) };
            Source { category: Some(category), up_to: Some(up_to), ..Source::default() }
        }
    };
    let mut removed = Removed::default();
    loop {
        let began = Instant::now();
        let batch = remove_batch(&mut connection, server, &source).await.map_err(failed)?;
        removed.add(batch);
        if batch.events < u64::from(BATCH_EVENTS) {
            break;
        }
        // Others have at least half of the time.
        sleep(began.elapsed().max(Duration::from_millis(1))).await;
    }
    goodbye(connection, server).await;
    Ok(removed)
}

async fn remove_batch(
    connection: &mut PgConnection,
    server: &Server,
    source: &Source,
) -> Result<Removed, Fault> {
    let query = sqlx::query(REMOVE_EVENTS)
        .bind(&source.stream)
        .bind(source.before_revision)
        .bind(&source.category)
        .bind(source.up_to)
        .bind(source.recorded_before)
        .bind(BATCH_EVENTS.cast_signed());
    let row = server.within(query.fetch_one(connection)).await?;
    let last: Option<i64> = row.try_get(2)?;
    Ok(Removed {
        events: unsigned(row.try_get(0)?),
        bytes: unsigned(row.try_get(1)?),
        last: last.map(position),
        erasure: None,
    })
}

/// The last position of a category before its newest events of `bytes` together.
async fn first_beyond(
    connection: &mut PgConnection,
    server: &Server,
    category: &str,
    bytes: u64,
) -> Result<Option<i64>, Fault> {
    let (mut before, mut total) = (i64::MAX, 0_u64);
    loop {
        let query = sqlx::query_as(READ_SIZES).bind(category).bind(before).bind(SIZES_PAGE);
        let rows: Vec<(i64, i64)> = server.within(query.fetch_all(&mut *connection)).await?;
        for (position, size) in &rows {
            total = total.saturating_add(unsigned(*size));
            if total > bytes {
                return Ok(Some(*position));
            }
            before = *position;
        }
        if rows.is_empty() {
            return Ok(None);
        }
    }
}

async fn erase(
    connection: &mut PgConnection,
    server: &Server,
    event: EventRef,
) -> Result<Removed, RemoveError> {
    let at = match event {
        EventRef::Position(at) => at,
        EventRef::Revision(stream, revision) => {
            let query = sqlx::query_as(FIND_POSITION)
                .bind(stream.as_str().to_owned())
                .bind(number(revision.get()));
            let found = server.within(query.fetch_one(&mut *connection)).await.map_err(failed)?;
            match found {
                (Some(at), _) => position(at),
                (None, true) => return Ok(Removed::default()),
                (None, false) => return Err(RemoveError::NotFound),
            }
        }
    };
    let query = sqlx::query(ERASE_EVENT)
        .bind(number(at.get()))
        .bind(EventId::generate().as_uuid())
        .bind(Moment(Timestamp::now()));
    let row = server.within(query.fetch_one(&mut *connection)).await.map_err(failed)?;
    let broken = |error: sqlx::Error| failed(Fault::from(error));
    match row.try_get(0).map_err(broken)? {
        "erased" => {}
        "gone" => return Ok(Removed::default()),
        "reserved" => return Err(RemoveError::Reserved),
        _ => return Err(RemoveError::NotFound),
    }
    let erasure = Appended {
        revision: Revision::new(unsigned(row.try_get(2).map_err(broken)?)),
        position: position(row.try_get(3).map_err(broken)?),
    };
    let notify = sqlx::query(NOTIFY_HEAD).bind(erasure.position.to_string());
    if let Err(fault) = server.within(notify.execute(connection)).await {
        tracing::debug!(reason = %fault.reason(), "could not notify; listeners look for themselves");
    }
    let bytes = unsigned(row.try_get(1).map_err(broken)?);
    Ok(Removed { events: 1, bytes, last: Some(at), erasure: Some(erasure) })
}

/// See [`EventStore::retained_after`](crate::EventStore::retained_after).
pub(super) async fn retained_after(
    pool: &PgPool,
    server: &Server,
    target: &Target,
    after: GlobalPosition,
) -> Result<Option<GlobalPosition>, ReadError> {
    let query = match target {
        Target::All => sqlx::query_as(FIND_REMOVED),
        Target::Category(category) => {
            sqlx::query_as(FIND_REMOVED_OF_CATEGORY).bind(category.as_str().to_owned())
        }
        Target::Stream(stream) => {
            sqlx::query_as(FIND_REMOVED_OF_STREAM).bind(stream.as_str().to_owned())
        }
    };
    let mut connection = pool.acquire().await.map_err(|error| {
        tracing::debug!(reason = %reason(&error), "no connection to read with");
        ReadError::Unavailable
    })?;
    let found = server.within(query.fetch_one(&mut *connection)).await;
    if matches!(found, Err(Fault::Lost(_) | Fault::Ended(_))) {
        connection.close_on_drop();
    }
    let (removed, first, head): (Option<i64>, Option<i64>, Option<i64>) = found?;
    let next = head.map(position).unwrap_or_default().next();
    Ok(read_instead(after, removed.map(position), first.map(position), next))
}

async fn goodbye(connection: PgConnection, server: &Server) {
    // The server notices either way; saying goodbye is a courtesy.
    let _ = server.within(connection.close()).await;
}

fn failed(fault: Fault) -> RemoveError {
    ReadError::from(fault).into()
}

/// A number that constraints keep from being negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn position(number: i64) -> GlobalPosition {
    GlobalPosition::new(unsigned(number))
}

/// A number that is never beyond [`NUMBER_MAX`].
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
