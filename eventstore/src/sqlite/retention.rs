//! Removes events from SQLite: each batch a transaction of its own, on a connection of its own.
//!
//! What is removed is overwritten in the file (`secure_delete`), not only let go of. The file keeps
//! its size: what was freed is used again by what is appended later.

use std::time::Duration;

use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::time::{Instant, sleep};

use super::{
    WriteTurns,
    append::{number, unsigned},
    error::read_error,
};
use crate::{
    Appended, Category, EventId, EventRef, GlobalPosition, NUMBER_MAX, Removal, RemoveError,
    Removed, Revision, StreamName, Timestamp,
    removal::{BATCH_EVENTS, erasure_data, older_than},
};

/// Events of a category that are looked at together when its size is measured.
const SIZES_PAGE: i64 = 2000;

/// What a batch takes its events from.
enum Source<'a> {
    /// A stream, before a revision.
    Stream(&'a StreamName, i64),
    /// A category, up to a position and recorded before a moment (microseconds).
    Category(&'a Category, i64, i64),
}

/// Removes, or erases. Each batch waits for a turn of its own.
pub(super) async fn remove(
    connect: &SqliteConnectOptions,
    turns: &WriteTurns,
    removal: Removal,
) -> Result<Removed, RemoveError> {
    let connect = connect.clone().create_if_missing(false);
    let mut connection = SqliteConnection::connect_with(&connect).await.map_err(failed)?;
    let (up_to, ever) = (number(NUMBER_MAX), i64::MAX);
    let removed = match &removal {
        Removal::Erase(event) => erase(&mut connection, turns, event).await,
        Removal::Delete { stream } => {
            in_batches(&mut connection, turns, Source::Stream(stream, up_to)).await
        }
        Removal::Truncate { stream, before } => {
            in_batches(&mut connection, turns, Source::Stream(stream, number(before.get()))).await
        }
        Removal::Older { category, than } => {
            let source = Source::Category(category, up_to, older_than(*than).as_micros());
            in_batches(&mut connection, turns, source).await
        }
        Removal::Beyond { category, bytes } => {
            match first_beyond(&mut connection, category, *bytes).await.map_err(failed)? {
                Some(up_to) => {
                    in_batches(&mut connection, turns, Source::Category(category, up_to, ever))
                        .await
                }
                None => Ok(Removed::default()),
            }
        }
    };
    // What was removed is durable; a connection that does not close in order harms nobody.
    let _ = connection.close().await;
    removed
}

async fn in_batches(
    connection: &mut SqliteConnection,
    turns: &WriteTurns,
    source: Source<'_>,
) -> Result<Removed, RemoveError> {
    let mut removed = Removed::default();
    loop {
        let began = Instant::now();
        let mine = turns.take().await;
        let batch = remove_batch(connection, &source).await.map_err(failed)?;
        drop(mine);
        removed.add(batch);
        if batch.events < u64::from(BATCH_EVENTS) {
            return Ok(removed);
        }
        // Others have at least half of the time.
        sleep(began.elapsed().max(Duration::from_millis(1))).await;
    }
}

async fn remove_batch(
    connection: &mut SqliteConnection,
    source: &Source<'_>,
) -> Result<Removed, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (query, before) = match source {
        Source::Stream(stream, before) => {
            let query = sqlx::query(include_str!("sql/choose_of_stream.sql"));
            (query.bind(stream.as_str()).bind(before), None)
        }
        Source::Category(category, up_to, before) => {
            let query = sqlx::query(include_str!("sql/choose_of_category.sql"));
            (query.bind(category.as_str()).bind(up_to), Some(*before))
        }
    };
    let rows = query.bind(i64::from(BATCH_EVENTS)).fetch_all(&mut *transaction).await?;
    let mut removed = Removed::default();
    for row in rows {
        if let Some(before) = before
            && row.try_get::<i64, _>(5)? >= before
        {
            break;
        }
        let position: i64 = row.try_get(0)?;
        sqlx::query(include_str!("sql/note_removed_stream.sql"))
            .bind(row.try_get::<&str, _>(2)?)
            .bind(row.try_get::<i64, _>(1)?)
            .bind(position)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(include_str!("sql/note_removed_category.sql"))
            .bind(row.try_get::<&str, _>(3)?)
            .bind(position)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(include_str!("sql/bury_event.sql"))
            .bind(position)
            .execute(&mut *transaction)
            .await?;
        removed.add(Removed {
            events: 1,
            bytes: unsigned(row.try_get(4)?),
            last: Some(GlobalPosition::new(unsigned(position))),
            erasure: None,
        });
    }
    match removed.last {
        Some(last) => {
            sqlx::query(include_str!("sql/note_removals.sql"))
                .bind(number(last.get()))
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
        }
        None => transaction.rollback().await?,
    }
    Ok(removed)
}

/// The last position of a category before its newest events of `bytes` together.
async fn first_beyond(
    connection: &mut SqliteConnection,
    category: &Category,
    bytes: u64,
) -> Result<Option<i64>, sqlx::Error> {
    let (mut before, mut total) = (i64::MAX, 0_u64);
    loop {
        let rows: Vec<(i64, i64)> = sqlx::query_as(include_str!("sql/read_sizes.sql"))
            .bind(category.as_str())
            .bind(before)
            .bind(SIZES_PAGE)
            .fetch_all(&mut *connection)
            .await?;
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
    connection: &mut SqliteConnection,
    turns: &WriteTurns,
    event: &EventRef,
) -> Result<Removed, RemoveError> {
    let _mine = turns.take().await;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let position = match event {
        EventRef::Position(position) => number(position.get()),
        EventRef::Revision(stream, revision) => {
            let (position, is_removed): (Option<i64>, bool) =
                sqlx::query_as(include_str!("sql/find_position.sql"))
                    .bind(stream.as_str())
                    .bind(number(revision.get()))
                    .fetch_one(&mut *transaction)
                    .await
                    .map_err(failed)?;
            match position {
                Some(position) => position,
                None if is_removed => return Ok(Removed::default()),
                None => return Err(RemoveError::NotFound),
            }
        }
    };
    let row = sqlx::query(include_str!("sql/load_event_for_erasure.sql"))
        .bind(position)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?
        .ok_or(RemoveError::NotFound)?;
    if row.try_get(4).map_err(failed)? {
        return Ok(Removed::default());
    }
    if row.try_get::<&str, _>(3).map_err(failed)?.starts_with('$') {
        return Err(RemoveError::Reserved);
    }
    let erased = async {
        let at = GlobalPosition::new(unsigned(position));
        let revision = Revision::new(unsigned(row.try_get(1)?));
        let id = EventId::from(row.try_get::<uuid::Uuid, _>(2)?);
        let notice = Appended {
            position: GlobalPosition::new(unsigned(row.try_get(6)?)).next(),
            revision: Revision::new(unsigned(row.try_get(7)?)).next(),
        };
        sqlx::query(include_str!("sql/erase_event.sql"))
            .bind(position)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(include_str!("sql/insert_erasure.sql"))
            .bind(number(notice.position.get()))
            .bind(number(notice.revision.get()))
            .bind(Timestamp::now().as_micros())
            .bind(EventId::generate().as_uuid())
            .bind(row.try_get::<&str, _>(0)?)
            .bind(erasure_data(at, revision, id))
            .execute(&mut *transaction)
            .await?;
        let bytes = unsigned(row.try_get(5)?);
        Ok(Removed { events: 1, bytes, last: Some(at), erasure: Some(notice) })
    };
    let erased = erased.await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(erased)
}

fn failed(error: sqlx::Error) -> RemoveError {
    read_error(&error).into()
}
