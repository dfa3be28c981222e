//! Reads: one statement each, so that documents and checkpoint are of one snapshot.

use sqlx::{PgConnection, postgres::PgRow};
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition};
use tidewire_protocol::query::{OrderDirection, SortKey};

use super::{
    Shared,
    fault::Failure,
    server::acquire,
    wire::{boolean, bytes, key, number, optional, position, text, unsigned},
};
use crate::{
    StoreError,
    documents::{
        ChangePage, ChangesRead, DocumentPage, PAGE_BYTES_MAX, PAGE_MAX, PageRead, Parked, Place,
        Scan, StoredDocument, range::after_prefix,
    },
};

const READ_DOCUMENTS: &str = include_str!("sql/read_documents.sql");
const READ_BY_KEY_ASCENDING: &str = include_str!("sql/read_by_key_ascending.sql");
const READ_BY_KEY_DESCENDING: &str = include_str!("sql/read_by_key_descending.sql");
const READ_BY_INDEX_ASCENDING: &str = include_str!("sql/read_by_index_ascending.sql");
const READ_BY_INDEX_DESCENDING: &str = include_str!("sql/read_by_index_descending.sql");
const READ_CHANGES: &str = include_str!("sql/read_changes.sql");
const READ_PARKED: &str = include_str!("sql/read_parked.sql");

/// A page takes no more documents once these have this many bytes.
const PAGE_BYTES: i64 = PAGE_BYTES_MAX as i64;

pub(super) async fn documents(
    shared: &Shared,
    generation: Generation,
    keys: &[DocumentKey],
) -> Result<Vec<StoredDocument>, Failure> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection = acquire(&shared.reads).await?;
    let keys: Vec<&str> = keys.iter().map(DocumentKey::as_str).collect();
    let query = sqlx::query(READ_DOCUMENTS).bind(number(generation.get())).bind(keys);
    let rows = shared.server.within(query.fetch_all(&mut *connection)).await?;
    rows.iter()
        .map(|row| {
            Ok(StoredDocument {
                key: key(row, 0)?,
                position: position(row, 1)?,
                data: bytes(row, 2)?,
            })
        })
        .collect()
}

pub(super) async fn page(shared: &Shared, read: &PageRead) -> Result<DocumentPage, Failure> {
    let limit = read.limit.clamp(1, PAGE_MAX);
    let mut connection = acquire(&shared.reads).await?;
    let rows = shared.server.within(rows(&mut connection, read, limit)).await?;
    let first = rows.first().ok_or(StoreError::Unknown)?;
    let checkpoint = position(first, 0)?;
    if optional(first, 3)?.is_none() {
        return Ok(DocumentPage { position: checkpoint, documents: Vec::new(), more: false });
    }
    let found = unsigned(first, 1)?;
    let documents = rows.iter().take(limit).map(decode).collect::<Result<Vec<_>, Failure>>()?;
    let more = found > documents.len() as u64;
    Ok(DocumentPage { position: checkpoint, documents, more })
}

/// Columns: checkpoint, rows, entry, key, position, data.
fn decode(row: &PgRow) -> Result<(Place, StoredDocument), Failure> {
    let entry = match optional(row, 2)? {
        Some(_) => SortKey::from_bytes(bytes(row, 2)?),
        None => SortKey::default(),
    };
    let key = key(row, 3)?;
    let place = Place { entry, key: key.clone() };
    Ok((place, StoredDocument { key, position: position(row, 4)?, data: bytes(row, 5)? }))
}

/// One row more than the page's limit, where there are as many.
async fn rows(
    connection: &mut PgConnection,
    read: &PageRead,
    limit: usize,
) -> Result<Vec<PgRow>, sqlx::Error> {
    let generation = number(read.generation.get());
    let rows = number(limit as u64 + 1);
    let after = read.after.as_ref();
    match &read.scan {
        Scan::Keys(direction) => {
            let statement = match direction {
                OrderDirection::Ascending => READ_BY_KEY_ASCENDING,
                OrderDirection::Descending => READ_BY_KEY_DESCENDING,
            };
            sqlx::query(statement)
                .bind(generation)
                .bind(after.map(|place| place.key.as_str()))
                .bind(rows)
                .bind(PAGE_BYTES)
                .fetch_all(connection)
                .await
        }
        Scan::Index { index, prefix, direction } => {
            let entry = after.map(|place| &place.entry.as_bytes()[..]);
            let key = after.map(|place| place.key.as_str());
            // No key is empty, so that all the entries from the prefix on are after this.
            let first = || (Some(&prefix.as_bytes()[..]), Some(""));
            let (statement, (entry, key)) = match direction {
                OrderDirection::Ascending => {
                    let after = if entry.is_some() { (entry, key) } else { first() };
                    (READ_BY_INDEX_ASCENDING, after)
                }
                OrderDirection::Descending => (READ_BY_INDEX_DESCENDING, (entry, key)),
            };
            sqlx::query(statement)
                .bind(generation)
                .bind(i16::try_from(*index).unwrap_or(i16::MAX))
                .bind(&prefix.as_bytes()[..])
                .bind(after_prefix(prefix).as_ref().map(|end| &end.as_bytes()[..]))
                .bind(entry)
                .bind(key)
                .bind(rows)
                .bind(PAGE_BYTES)
                .fetch_all(connection)
                .await
        }
    }
}

pub(super) async fn changes(shared: &Shared, read: ChangesRead) -> Result<ChangePage, Failure> {
    let mut connection = acquire(&shared.reads).await?;
    let query = sqlx::query(READ_CHANGES)
        .bind(number(read.generation.get()))
        .bind(number(read.after.get()))
        .bind(number(read.limit.clamp(1, PAGE_MAX) as u64))
        .bind(PAGE_BYTES);
    let rows = shared.server.within(query.fetch_all(&mut *connection)).await?;
    let first = rows.first().ok_or(StoreError::Unknown)?;
    let checkpoint = position(first, 0)?;
    let more = boolean(first, 3)?;
    let mut changes = Vec::new();
    if optional(first, 4)?.is_some() {
        changes.reserve_exact(rows.len());
        for row in &rows {
            let data = optional(row, 6)?.map(bytes::Bytes::copy_from_slice);
            changes.push((key(row, 4)?, position(row, 5)?, data));
        }
    }
    let through = match changes.last() {
        Some((_, last, _)) if more => *last,
        _ => checkpoint,
    };
    Ok(ChangePage {
        through,
        checkpoint,
        changes,
        more,
        complete: read.after >= position(first, 1)?,
        active: boolean(first, 2)?,
    })
}

pub(super) async fn parked(
    shared: &Shared,
    generation: Generation,
    after: GlobalPosition,
    limit: usize,
) -> Result<Vec<Parked>, Failure> {
    let mut connection = acquire(&shared.reads).await?;
    let query = sqlx::query(READ_PARKED)
        .bind(number(generation.get()))
        .bind(number(after.get()))
        .bind(number(limit as u64));
    let rows = shared.server.within(query.fetch_all(&mut *connection)).await?;
    rows.iter()
        .map(|row| Ok(Parked { position: position(row, 0)?, reason: text(row, 1)?.to_owned() }))
        .collect()
}
