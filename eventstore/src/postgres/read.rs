//! Reading pages: keyset pages by index, payload bytes passed through as they lie in the
//! database, never parsed.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt;
use sqlx::{
    PgConnection, PgPool, Postgres, Row,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{
    commands,
    connect::Server,
    epoch,
    fault::{Fault, reason},
    wire::Moment,
};
use crate::{
    CommandKey, CommandName, Direction, EventId, EventType, Executed, GlobalPosition, LogHead,
    NUMBER_MAX, Page, Payload, REMOVED_NAME, Read, ReadError, ReadStart, RecordedEvent, Revision,
    StreamName, Target,
};

const FIND_REVISION: &str = include_str!("sql/find_revision.sql");

/// How often a page is read again when its connection turns out to be dead: once the pool has
/// given out a connection that died unnoticed, the next one is a fresh or a tested one.
const ATTEMPTS: usize = 2;

/// A page that has so many bytes of payload and metadata ends early, and says that there is more.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Reads one page on a connection of `pool`.
pub(super) async fn read(pool: &PgPool, server: &Server, read: &Read) -> Result<Page, ReadError> {
    for _ in 0..ATTEMPTS {
        let mut connection = acquire(pool).await?;
        match page(&mut connection, server, read).await {
            Ok((page, rest)) => {
                if rest == Rest::Unread {
                    // Reading on to the end of the statement could take as long as it likes.
                    connection.close_on_drop();
                }
                return Ok(page);
            }
            Err(PageError::Fault(Fault::Lost(reason) | Fault::Ended(reason))) => {
                discard(connection, &reason)
            }
            Err(PageError::Fault(fault)) => return Err(fault.into()),
            Err(PageError::Corrupt(reason)) => return Err(ReadError::Corrupt { reason }),
        }
    }
    Err(ReadError::Unavailable)
}

/// Reads the head and the epochs on a connection of `pool`.
pub(super) async fn head(pool: &PgPool, server: &Server) -> Result<LogHead, ReadError> {
    for _ in 0..ATTEMPTS {
        let mut connection = acquire(pool).await?;
        match epoch::read(&mut connection, server).await {
            Ok(head) => return Ok(head),
            Err(Fault::Lost(reason) | Fault::Ended(reason)) => discard(connection, &reason),
            Err(fault) => return Err(fault.into()),
        }
    }
    Err(ReadError::Unavailable)
}

/// Finds what is recorded under a command's name and key, on a connection of `pool`.
pub(super) async fn command(
    pool: &PgPool,
    server: &Server,
    name: &CommandName,
    key: &CommandKey,
) -> Result<Option<Executed>, ReadError> {
    for _ in 0..ATTEMPTS {
        let mut connection = acquire(pool).await?;
        match commands::find(&mut connection, server, &[(name, key)]).await {
            Ok(found) => return Ok(found.into_values().next().map(|row| row.executed(true))),
            Err(Fault::Lost(reason) | Fault::Ended(reason)) => discard(connection, &reason),
            Err(fault) => return Err(fault.into()),
        }
    }
    Err(ReadError::Unavailable)
}

async fn acquire(pool: &PgPool) -> Result<PoolConnection<Postgres>, ReadError> {
    // Why a connection cannot be had now says nothing about later.
    pool.acquire().await.map_err(|error| {
        tracing::debug!(reason = %reason(&error), "no connection to read with");
        ReadError::Unavailable
    })
}

fn discard(mut connection: PoolConnection<Postgres>, reason: &str) {
    tracing::debug!(reason, "lost a connection while reading");
    connection.close_on_drop();
}

enum PageError {
    Fault(Fault),
    Corrupt(String),
}

impl From<Fault> for PageError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Where a page begins, exclusive, in positions and, for a stream, in revisions.
struct Bounds {
    position: i64,
    revision: i64,
}

async fn page(
    connection: &mut PgConnection,
    server: &Server,
    read: &Read,
) -> Result<(Page, Rest), PageError> {
    let limit = read.limit.clamp(1, Read::LIMIT_MAX);
    let bounds = bounds(connection, server, read).await?;
    let types: Vec<String> = {
        let mut types: Vec<_> = read.types.iter().map(|name| name.as_str().to_owned()).collect();
        types.sort_unstable();
        types.dedup();
        types
    };
    let until = read.until.map(|until| number(until.get()));
    // One more than asked for tells whether there is more.
    let rows = number(limit as u64 + 1);
    let query = statement(read, types, bounds.revision);
    let query = query.of(bounds.position, until, rows);
    let mut reader = Reader::new(limit);
    let mut rest = Rest::None;
    server
        .within(async {
            let mut rows = query.fetch(connection);
            while let Some(row) = rows.try_next().await? {
                if let Taken::Enough = reader.take(&row) {
                    rest = Rest::Unread;
                    break;
                }
            }
            Ok(())
        })
        .await?;
    Ok((reader.page(read.direction)?, rest))
}

/// What is left of a statement's answer on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    None,
    Unread,
}

/// A statement with what is bound after its first three binds, which all page statements share.
enum Statement {
    All(&'static str),
    AllByType(&'static str, Vec<String>),
    Category(&'static str, String),
    CategoryByType(&'static str, Vec<String>, String),
    Stream(&'static str, String, i64, Option<Vec<String>>),
}

impl Statement {
    fn of(
        self,
        position: i64,
        until: Option<i64>,
        rows: i64,
    ) -> Query<'static, Postgres, PgArguments> {
        let common = |sql| sqlx::query(sql).bind(position).bind(until).bind(rows);
        match self {
            Self::All(sql) => common(sql),
            Self::AllByType(sql, types) => common(sql).bind(types),
            Self::Category(sql, category) => common(sql).bind(category),
            Self::CategoryByType(sql, types, category) => common(sql).bind(types).bind(category),
            Self::Stream(sql, stream, revision, types) => {
                common(sql).bind(stream).bind(revision).bind(types)
            }
        }
    }
}

fn statement(read: &Read, types: Vec<String>, revision: i64) -> Statement {
    macro_rules! sql {
        ($what:literal) => {
            match read.direction {
                Direction::Forwards => include_str!(concat!("sql/read_", $what, "_forwards.sql")),
                Direction::Backwards => include_str!(concat!("sql/read_", $what, "_backwards.sql")),
            }
        };
    }
    match &read.target {
        Target::All if types.is_empty() => Statement::All(sql!("all")),
        Target::All => Statement::AllByType(sql!("all_by_type"), types),
        Target::Category(category) => {
            let category = category.as_str().to_owned();
            if types.is_empty() {
                Statement::Category(sql!("category"), category)
            } else {
                Statement::CategoryByType(sql!("category_by_type"), types, category)
            }
        }
        Target::Stream(stream) => {
            let types = (!types.is_empty()).then_some(types);
            Statement::Stream(sql!("stream"), stream.as_str().to_owned(), revision, types)
        }
    }
}

async fn bounds(
    connection: &mut PgConnection,
    server: &Server,
    read: &Read,
) -> Result<Bounds, PageError> {
    // Outside of what positions and revisions can be: everything lies past the one end, nothing
    // past the other.
    let (low, high) = (-1, number(NUMBER_MAX) + 1);
    let (open, shut) = match read.direction {
        Direction::Forwards => (low, high),
        Direction::Backwards => (high, low),
    };
    Ok(match (read.from, &read.target) {
        (ReadStart::End, _) => Bounds { position: open, revision: open },
        (ReadStart::Revision(revision), Target::Stream(_)) => {
            Bounds { position: open, revision: number(revision.get()) }
        }
        (ReadStart::Revision(_), _) => Bounds { position: shut, revision: open },
        (ReadStart::Position(position), Target::Stream(stream)) => {
            let revision = seek(connection, server, stream, position, read.direction).await?;
            Bounds { position: number(position.get()), revision: revision.unwrap_or(open) }
        }
        (ReadStart::Position(position), _) => {
            Bounds { position: number(position.get()), revision: open }
        }
    })
}

/// The revision that stands for `position` in a stream, so that the page's statement begins where
/// it should and not at the end of a long stream. `None` where that is no saving.
async fn seek(
    connection: &mut PgConnection,
    server: &Server,
    stream: &StreamName,
    position: GlobalPosition,
    direction: Direction,
) -> Result<Option<i64>, PageError> {
    if position == GlobalPosition::START {
        return Ok(None);
    }
    let before = match direction {
        Direction::Forwards => position,
        Direction::Backwards => position.previous(),
    };
    let query = sqlx::query_scalar(FIND_REVISION)
        .bind(stream.as_str().to_owned())
        .bind(number(before.get()));
    let count: i64 = server.within(query.fetch_one(connection)).await?;
    Ok(Some(match direction {
        Direction::Forwards => count - 1,
        Direction::Backwards => count,
    }))
}

/// Whether a page takes more rows.
enum Taken {
    GoOn,
    Enough,
}

/// A page in the making.
struct Reader {
    limit: usize,
    head: Option<GlobalPosition>,
    names: Names,
    events: Vec<RecordedEvent>,
    bytes: usize,
    more: bool,
    corrupt: Option<PageError>,
}

impl Reader {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            head: None,
            names: Names::default(),
            events: Vec::with_capacity(limit.min(1000)),
            bytes: 0,
            more: false,
            corrupt: None,
        }
    }

    fn take(&mut self, row: &PgRow) -> Taken {
        match self.decode(row) {
            Ok(taken) => taken,
            Err(corrupt) => {
                self.corrupt = Some(corrupt);
                Taken::Enough
            }
        }
    }

    fn decode(&mut self, row: &PgRow) -> Result<Taken, PageError> {
        if self.head.is_none() {
            self.head = Some(GlobalPosition::new(unsigned(raw_i64(row, 0)?)?));
        }
        if is_null(row, 1)? {
            return Ok(Taken::GoOn);
        }
        if self.events.len() == self.limit {
            self.more = true;
            return Ok(Taken::GoOn);
        }
        if self.bytes >= PAGE_BYTES {
            self.more = true;
            return Ok(Taken::Enough);
        }
        let event = decode_event(row, &mut self.names)?;
        self.bytes += event.payload.len() + event.meta.as_ref().map_or(0, Bytes::len);
        self.events.push(event);
        Ok(Taken::GoOn)
    }

    fn page(self, direction: Direction) -> Result<Page, PageError> {
        if let Some(corrupt) = self.corrupt {
            return Err(corrupt);
        }
        let Some(head) = self.head else {
            return Err(PageError::Corrupt("a page without its head".into()));
        };
        // The statements order the one side of a join with one row, which nothing obliges to keep
        // it.
        let in_order = |pair: &[RecordedEvent]| match direction {
            Direction::Forwards => pair[0].position < pair[1].position,
            Direction::Backwards => pair[0].position > pair[1].position,
        };
        if !self.events.windows(2).all(in_order) {
            return Err(PageError::Corrupt("a page out of order".into()));
        }
        Ok(Page { events: self.events, head, more: self.more })
    }
}

/// The names in one page, each made once: most pages have few.
#[derive(Default)]
struct Names {
    streams: HashMap<Box<str>, StreamName>,
    types: HashMap<Box<str>, EventType>,
}

impl Names {
    fn stream(&mut self, name: &str) -> Result<StreamName, PageError> {
        if let Some(known) = self.streams.get(name) {
            return Ok(known.clone());
        }
        let made = StreamName::recorded(name).map_err(corrupt)?;
        self.streams.insert(name.into(), made.clone());
        Ok(made)
    }

    fn event_type(&mut self, name: &str) -> Result<EventType, PageError> {
        if let Some(known) = self.types.get(name) {
            return Ok(known.clone());
        }
        let made = EventType::recorded(name).map_err(corrupt)?;
        self.types.insert(name.into(), made.clone());
        Ok(made)
    }
}

/// Columns of every page statement: head, position, revision, recorded_at, id, stream, type, data,
/// content_type, bytes, meta.
fn decode_event(row: &PgRow, names: &mut Names) -> Result<RecordedEvent, PageError> {
    let event_type = text(row, 6)?;
    let payload = match optional(row, 7)? {
        Some(data) => Payload::Json(Bytes::copy_from_slice(data)),
        None => match text(row, 8)? {
            "" if event_type == REMOVED_NAME => Payload::Removed,
            "" => Payload::Erased,
            content_type => Payload::Binary {
                content_type: Arc::from(content_type),
                data: Bytes::copy_from_slice(required(row, 9)?),
            },
        },
    };
    let Moment(recorded_at) = row.try_get_unchecked(3).map_err(corrupt)?;
    let id: [u8; 16] = required(row, 4)?.try_into().map_err(corrupt)?;
    Ok(RecordedEvent {
        position: GlobalPosition::new(unsigned(raw_i64(row, 1)?)?),
        stream: names.stream(text(row, 5)?)?,
        revision: Revision::new(unsigned(raw_i64(row, 2)?)?),
        event_type: names.event_type(event_type)?,
        id: EventId::from(uuid::Uuid::from_bytes(id)),
        recorded_at,
        payload,
        meta: optional(row, 10)?.map(Bytes::copy_from_slice),
    })
}

/// A column's bytes as the server sent them, which prepared statements do in binary.
fn optional(row: &PgRow, column: usize) -> Result<Option<&[u8]>, PageError> {
    use sqlx::ValueRef;
    let value = row.try_get_raw(column).map_err(corrupt)?;
    if value.is_null() { Ok(None) } else { value.as_bytes().map(Some).map_err(corrupt) }
}

fn required(row: &PgRow, column: usize) -> Result<&[u8], PageError> {
    optional(row, column)?
        .ok_or_else(|| PageError::Corrupt(format!("nothing in column {column} of a page")))
}

fn is_null(row: &PgRow, column: usize) -> Result<bool, PageError> {
    Ok(optional(row, column)?.is_none())
}

fn text(row: &PgRow, column: usize) -> Result<&str, PageError> {
    std::str::from_utf8(required(row, column)?).map_err(corrupt)
}

fn raw_i64(row: &PgRow, column: usize) -> Result<i64, PageError> {
    Ok(i64::from_be_bytes(required(row, column)?.try_into().map_err(corrupt)?))
}

fn unsigned(number: i64) -> Result<u64, PageError> {
    u64::try_from(number).map_err(corrupt)
}

fn corrupt(error: impl std::fmt::Display) -> PageError {
    PageError::Corrupt(error.to_string())
}

/// A position, revision or count as PostgreSQL has it; none of them is beyond [`NUMBER_MAX`].
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
