//! Reads pages, the head and the epochs, on connections of their own.
//!
//! A page's head is read before the page and bounds it; the log only grows at its end, so the
//! two together are one snapshot.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Row as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow},
};
use uuid::Uuid;

use super::{
    append::{number, unsigned},
    commands,
    error::read_error,
};
use crate::{
    CommandKey, CommandName, Direction, EventId, EventType, Executed, GlobalPosition, LogEpoch,
    LogHead, NUMBER_MAX, Page, Payload, REMOVED_NAME, Read, ReadError, ReadStart, RecordedEvent,
    Removals, Revision, StreamName, Target, Timestamp, removal::read_instead,
};

/// Past so many types a read of the whole log filters as it scans: SQLite joins at most 500
/// SELECTs, and so many types are seldom rare together.
const TYPE_ARMS_MAX: usize = 32;

/// A page ends early once its payloads and metadata have so many bytes.
pub(super) const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The reading side of a store.
#[derive(Debug)]
pub(super) struct Reader {
    pages: SqlitePool,
    /// Apart from the pages, so that long reads never hide the head.
    heads: SqlitePool,
}

/// The bounds of a page, in the numbers that its target is ordered by.
struct Range {
    after: i64,
    up_to: i64,
}

impl Reader {
    pub(super) fn new(connect: &SqliteConnectOptions, readers_max: u32) -> Self {
        let connect = connect.clone().read_only(true).create_if_missing(false);
        let pool = |size| {
            SqlitePoolOptions::new().max_connections(size).connect_lazy_with(connect.clone())
        };
        Self { pages: pool(readers_max.max(1)), heads: pool(1) }
    }

    pub(super) async fn close(&self) {
        self.pages.close().await;
        self.heads.close().await;
    }

    pub(super) async fn head(&self) -> Result<LogHead, ReadError> {
        let rows = sqlx::query(include_str!("sql/load_log_head.sql"))
            .fetch_all(&self.heads)
            .await
            .map_err(|error| read_error(&error))?;
        let head = rows.first().map(|row| row.try_get(0)).transpose();
        let epochs: Result<Arc<[LogEpoch]>, _> = rows.iter().map(epoch).collect();
        match (head, epochs) {
            (Ok(Some(head)), Ok(epochs)) => {
                let removals = removals(&rows[0]).map_err(|error| read_error(&error))?;
                Ok(LogHead { position: GlobalPosition::new(unsigned(head)), epochs, removals })
            }
            (Ok(None), _) => Err(ReadError::Corrupt { reason: "the log has no epoch".into() }),
            (Err(error), _) | (_, Err(error)) => Err(read_error(&error)),
        }
    }

    /// See [`EventStore::retained_after`](crate::EventStore::retained_after).
    pub(super) async fn retained_after(
        &self,
        target: &Target,
        after: GlobalPosition,
    ) -> Result<Option<GlobalPosition>, ReadError> {
        let query = match target {
            Target::All => sqlx::query(include_str!("sql/find_removed.sql")),
            Target::Category(category) => {
                sqlx::query(include_str!("sql/find_removed_of_category.sql"))
                    .bind(category.as_str())
            }
            Target::Stream(stream) => {
                sqlx::query(include_str!("sql/find_removed_of_stream.sql")).bind(stream.as_str())
            }
        };
        let found = async {
            let row = query.fetch_one(&self.pages).await?;
            let position = |column| {
                let number = row.try_get::<Option<i64>, _>(column)?;
                Ok::<_, sqlx::Error>(number.map(|number| GlobalPosition::new(unsigned(number))))
            };
            let next = position(2)?.unwrap_or_default().next();
            Ok::<_, sqlx::Error>(read_instead(after, position(0)?, position(1)?, next))
        };
        found.await.map_err(|error| read_error(&error))
    }

    pub(super) async fn page(&self, read: Read) -> Result<Page, ReadError> {
        self.read_page(read).await.map_err(|error| read_error(&error))
    }

    pub(super) async fn command(
        &self,
        name: CommandName,
        key: CommandKey,
    ) -> Result<Option<Executed>, ReadError> {
        let found = async {
            let mut connection = self.pages.acquire().await?;
            commands::find(&mut connection, &name, &key).await
        };
        let found = found.await.map_err(|error| read_error(&error))?;
        Ok(found.map(|row| row.executed(true)))
    }

    async fn read_page(&self, read: Read) -> Result<Page, sqlx::Error> {
        let mut connection = self.pages.acquire().await?;
        let head: i64 = sqlx::query_scalar(include_str!("sql/load_head.sql"))
            .fetch_one(&mut *connection)
            .await?;
        let last = read.until.map_or(head, |until| head.min(number(until.get())));
        let limit = read.limit.clamp(1, Read::LIMIT_MAX);
        let forwards = read.direction == Direction::Forwards;

        let (range, sql) = match &read.target {
            Target::Stream(stream) => {
                let sql = if forwards {
                    AssertSqlSafe(include_str!("sql/read_stream_forwards.sql").into())
                } else {
                    AssertSqlSafe(include_str!("sql/read_stream_backwards.sql").into())
                };
                (stream_range(&mut connection, &read, stream, last).await?, sql)
            }
            Target::Category(_) if forwards => {
                let sql = include_str!("sql/read_category_forwards.sql");
                (position_range(&read, last), AssertSqlSafe(sql.into()))
            }
            Target::Category(_) => {
                let sql = include_str!("sql/read_category_backwards.sql");
                (position_range(&read, last), AssertSqlSafe(sql.into()))
            }
            Target::All => (position_range(&read, last), AssertSqlSafe(read_all(&read))),
        };

        let by_arms = reads_by_type(&read);
        let types = (!read.types.is_empty() && !by_arms)
            .then(|| serde_json::to_string(&read.types))
            .transpose()
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
        let mut query = sqlx::query(sql)
            .bind(range.after)
            .bind(range.up_to)
            // One more than asked for tells whether the page was cut.
            .bind(i64::try_from(limit + 1).unwrap_or(i64::MAX))
            .bind(types);
        match &read.target {
            Target::All if by_arms => {
                for event_type in &read.types {
                    query = query.bind(event_type.as_str());
                }
            }
            Target::All => {}
            Target::Category(category) => query = query.bind(category.as_str()),
            Target::Stream(stream) => query = query.bind(stream.as_str()).bind(last),
        }

        let mut rows = query.fetch(&mut *connection);
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut more = false;
        while let Some(row) = rows.try_next().await? {
            if events.len() == limit || bytes >= PAGE_BYTES_MAX {
                more = true;
                break;
            }
            let event = recorded_event(&row)?;
            bytes += event.payload.len() + event.meta.as_ref().map_or(0, Bytes::len);
            events.push(event);
        }
        Ok(Page { events, head: GlobalPosition::new(unsigned(head)), more })
    }
}

/// The positions of a page that is ordered by them. A revision orders only a stream: elsewhere
/// nothing matches.
fn position_range(read: &Read, last: i64) -> Range {
    match (read.from, read.direction) {
        (ReadStart::End, _) => Range { after: 0, up_to: last },
        (ReadStart::Position(position), Direction::Forwards) => {
            Range { after: number(position.get()), up_to: last }
        }
        (ReadStart::Position(position), Direction::Backwards) => {
            Range { after: 0, up_to: last.min(number(position.get()) - 1) }
        }
        (ReadStart::Revision(_), _) => Range { after: 0, up_to: 0 },
    }
}

/// The revisions of a page of a stream.
async fn stream_range(
    connection: &mut sqlx::SqliteConnection,
    read: &Read,
    stream: &StreamName,
    last: i64,
) -> Result<Range, sqlx::Error> {
    let mut range = Range { after: -1, up_to: number(NUMBER_MAX) };
    match (read.from, read.direction) {
        (ReadStart::End, _) => {}
        (ReadStart::Revision(revision), Direction::Forwards) => {
            range.after = number(revision.get());
        }
        (ReadStart::Revision(revision), Direction::Backwards) => {
            range.up_to = number(revision.get()) - 1;
        }
        (ReadStart::Position(position), Direction::Forwards) => {
            range.after = find_revision(connection, stream, number(position.get())).await?;
        }
        (ReadStart::Position(position), Direction::Backwards) => {
            range.up_to = find_revision(connection, stream, number(position.get()) - 1).await?;
        }
    }
    if read.until.is_some() {
        range.up_to = range.up_to.min(find_revision(connection, stream, last).await?);
    }
    Ok(range)
}

/// The last revision of `stream` at or before `position`, −1 if there is none.
async fn find_revision(
    connection: &mut sqlx::SqliteConnection,
    stream: &StreamName,
    position: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(include_str!("sql/find_revision.sql"))
        .bind(stream.as_str())
        .bind(position)
        .fetch_one(connection)
        .await
}

fn reads_by_type(read: &Read) -> bool {
    read.target == Target::All && (1..=TYPE_ARMS_MAX).contains(&read.types.len())
}

/// The statement for a page of the whole log. With few types each is looked up by itself in the
/// index `events_by_type`, and the first of all are taken: a rare type costs no scan, and a
/// frequent one no sort of all that it has.
fn read_all(read: &Read) -> Arc<str> {
    let forwards = read.direction == Direction::Forwards;
    if !reads_by_type(read) {
        return if forwards {
            include_str!("sql/read_all_forwards.sql").into()
        } else {
            include_str!("sql/read_all_backwards.sql").into()
        };
    }
    let order = if forwards { "ASC" } else { "DESC" };
    let arms: Vec<_> = (0..read.types.len())
        .map(|index| {
            format!(
                "SELECT position FROM (SELECT position FROM events WHERE type = ?{} \
                 AND position > ?1 AND position <= ?2 ORDER BY position {order} LIMIT ?3)",
                index + 5
            )
        })
        .collect();
    format!(
        "SELECT position, revision, recorded_at, id, stream, type, data, content_type, meta \
         FROM events WHERE position IN ({}) ORDER BY position {order} LIMIT ?3",
        arms.join(" UNION ALL ")
    )
    .into()
}

fn recorded_event(row: &SqliteRow) -> Result<RecordedEvent, sqlx::Error> {
    let data = Bytes::from(row.try_get::<Vec<u8>, _>(6)?);
    let event_type =
        EventType::recorded(row.try_get(5)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let payload = match row.try_get::<Option<&str>, _>(7)? {
        // No JSON text is empty.
        None if data.is_empty() && event_type.as_str() == REMOVED_NAME => Payload::Removed,
        None if data.is_empty() => Payload::Erased,
        None => Payload::Json(data),
        Some(content_type) => Payload::Binary { content_type: content_type.into(), data },
    };
    Ok(RecordedEvent {
        position: GlobalPosition::new(unsigned(row.try_get(0)?)),
        revision: Revision::new(unsigned(row.try_get(1)?)),
        recorded_at: Timestamp::from_micros(row.try_get(2)?),
        id: EventId::from(row.try_get::<Uuid, _>(3)?),
        stream: StreamName::recorded(row.try_get(4)?)
            .map_err(|error| sqlx::Error::Decode(error.into()))?,
        event_type,
        payload,
        meta: row.try_get::<Option<Vec<u8>>, _>(8)?.map(Bytes::from),
    })
}

fn removals(row: &SqliteRow) -> Result<Removals, sqlx::Error> {
    Ok(Removals {
        batches: unsigned(row.try_get(4)?),
        through: GlobalPosition::new(unsigned(row.try_get(5)?)),
    })
}

fn epoch(row: &SqliteRow) -> Result<LogEpoch, sqlx::Error> {
    Ok(LogEpoch {
        epoch: row.try_get(1)?,
        first_position: GlobalPosition::new(unsigned(row.try_get(2)?)),
        began_at: Timestamp::from_micros(row.try_get(3)?),
    })
}
