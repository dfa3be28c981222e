//! Reads documents, pages and changes, each in one snapshot, on connections of their own.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition};
use tidewire_protocol::query::{OrderDirection, SortKey};

use super::{Failure, SqliteDocuments, count, number, position};
use crate::documents::{
    ChangePage, ChangesRead, DocumentPage, PAGE_BYTES_MAX, PAGE_MAX, PageRead, Parked, Place, Scan,
    StoreError, StoredDocument, range::after_prefix,
};

/// Greater than every entry: each begins with the kind of its first value, a small number.
const ENTRIES_END: &[u8] = &[0xff];

/// A generation that can be read.
struct Readable {
    checkpoint: GlobalPosition,
    changes_from: GlobalPosition,
    active: bool,
}

async fn readable(
    connection: &mut SqliteConnection,
    generation: Generation,
) -> Result<Readable, Failure> {
    let found: Option<(i64, i64, bool)> = sqlx::query_as(include_str!("sql/read_generation.sql"))
        .bind(number(generation.get()))
        .fetch_optional(connection)
        .await?;
    let (checkpoint, changes_from, active) = found.ok_or(StoreError::Unknown)?;
    Ok(Readable { checkpoint: position(checkpoint), changes_from: position(changes_from), active })
}

/// A page that is being filled.
struct Filling {
    page: DocumentPage,
    limit: usize,
    bytes: usize,
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

impl Filling {
    /// How many rows to ask for: one more than fit tells that there is more.
    fn rows(&self) -> i64 {
        count(self.limit - self.page.documents.len() + 1)
    }

    /// Takes what the last statement of a page gives, up to where the page is full.
    async fn fill(
        &mut self,
        connection: &mut SqliteConnection,
        query: Query<'_>,
    ) -> Result<(), Failure> {
        let mut rows = query.fetch(connection);
        while let Some(row) = rows.try_next().await? {
            if self.page.documents.len() == self.limit || self.bytes >= PAGE_BYTES_MAX {
                self.page.more = true;
                break;
            }
            let document = stored(&row)?;
            let entry: Option<&[u8]> = if row.len() > 3 { Some(row.try_get(3)?) } else { None };
            let entry = entry.map(Bytes::copy_from_slice).unwrap_or_default();
            self.bytes += document.data.len();
            let place = Place { entry: SortKey::from_bytes(entry), key: document.key.clone() };
            self.page.documents.push((place, document));
        }
        Ok(())
    }
}

impl SqliteDocuments {
    pub(super) async fn load(
        &self,
        generation: Generation,
        keys: &[DocumentKey],
    ) -> Result<Vec<StoredDocument>, Failure> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<&str> = keys.iter().map(DocumentKey::as_str).collect();
        let keys = serde_json::to_string(&keys).expect("a list of texts is always JSON");
        let rows = sqlx::query(include_str!("sql/load_documents.sql"))
            .bind(number(generation.get()))
            .bind(keys)
            .fetch_all(&self.reads)
            .await?;
        rows.iter().map(stored).collect()
    }

    pub(super) async fn read_page(&self, read: &PageRead) -> Result<DocumentPage, Failure> {
        let mut snapshot = self.reads.begin().await?;
        let position = readable(&mut snapshot, read.generation).await?.checkpoint;
        let page = DocumentPage { position, documents: Vec::new(), more: false };
        let mut filling = Filling { page, limit: read.limit.clamp(1, PAGE_MAX), bytes: 0 };
        match &read.scan {
            Scan::Keys(direction) => {
                let after = read.after.as_ref().map(|place| place.key.as_str());
                by_key(&mut snapshot, &mut filling, read.generation, *direction, after).await?;
            }
            Scan::Index { index, prefix, direction: OrderDirection::Ascending } => {
                let index = (number(read.generation.get()), i64::from(*index));
                forwards(&mut snapshot, &mut filling, index, prefix, read.after.as_ref()).await?;
            }
            Scan::Index { index, prefix, direction: OrderDirection::Descending } => {
                let index = (number(read.generation.get()), i64::from(*index));
                backwards(&mut snapshot, &mut filling, index, prefix, read.after.as_ref()).await?;
            }
        }
        snapshot.rollback().await?;
        Ok(filling.page)
    }

    pub(super) async fn read_changes(&self, read: &ChangesRead) -> Result<ChangePage, Failure> {
        let mut snapshot = self.reads.begin().await?;
        let readable = readable(&mut snapshot, read.generation).await?;
        let limit = read.limit.clamp(1, PAGE_MAX);
        let mut page = ChangePage {
            through: readable.checkpoint,
            checkpoint: readable.checkpoint,
            changes: Vec::new(),
            more: false,
            complete: read.after >= readable.changes_from,
            active: readable.active,
        };
        let mut bytes = 0;
        {
            let mut rows = sqlx::query(include_str!("sql/read_changes.sql"))
                .bind(number(read.generation.get()))
                .bind(number(read.after.get()))
                .fetch(&mut *snapshot);
            while let Some(row) = rows.try_next().await? {
                let changed_at = position(row.try_get(1)?);
                let full = page.changes.len() >= limit || bytes >= PAGE_BYTES_MAX;
                if let Some((_, last, _)) = page.changes.last()
                    && full
                    && *last != changed_at
                {
                    page.through = *last;
                    page.more = true;
                    break;
                }
                let data = row.try_get::<Option<String>, _>(2)?.map(Bytes::from);
                bytes += data.as_ref().map_or(0, Bytes::len);
                page.changes.push((key(&row)?, changed_at, data));
            }
        }
        snapshot.rollback().await?;
        Ok(page)
    }

    pub(super) async fn list_parked(
        &self,
        generation: Generation,
        after: GlobalPosition,
        limit: usize,
    ) -> Result<Vec<Parked>, Failure> {
        let rows: Vec<(i64, String)> = sqlx::query_as(include_str!("sql/list_parked.sql"))
            .bind(number(generation.get()))
            .bind(number(after.get()))
            .bind(count(limit))
            .fetch_all(&self.reads)
            .await?;
        let parked = |(at, reason)| Parked { position: position(at), reason };
        Ok(rows.into_iter().map(parked).collect())
    }
}

async fn by_key(
    snapshot: &mut SqliteConnection,
    filling: &mut Filling,
    generation: Generation,
    direction: OrderDirection,
    after: Option<&str>,
) -> Result<(), Failure> {
    let query = match direction {
        OrderDirection::Ascending => sqlx::query(include_str!("sql/page_by_key_forwards.sql"))
            .bind(number(generation.get()))
            .bind(after.unwrap_or_default()),
        OrderDirection::Descending => sqlx::query(include_str!("sql/page_by_key_backwards.sql"))
            .bind(number(generation.get()))
            .bind(after),
    };
    let query = query.bind(filling.rows());
    filling.fill(snapshot, query).await
}

/// Reads an index from its least entry on: `index` is its generation and number.
async fn forwards(
    snapshot: &mut SqliteConnection,
    filling: &mut Filling,
    index: (i64, i64),
    prefix: &SortKey,
    after: Option<&Place>,
) -> Result<(), Failure> {
    let end = after_prefix(prefix);
    // No key is empty: every entry from the prefix on is after this.
    let from = after.filter(|after| after.entry >= *prefix);
    let (from, key) = from.map_or((prefix, ""), |after| (&after.entry, after.key.as_str()));
    let query = sqlx::query(include_str!("sql/page_by_entry_forwards.sql"))
        .bind(index.0)
        .bind(index.1)
        .bind(&from.as_bytes()[..])
        .bind(key)
        .bind(end.as_ref().map_or(ENTRIES_END, |end| &end.as_bytes()[..]))
        .bind(filling.rows());
    filling.fill(snapshot, query).await
}

/// Reads an index from its greatest entry on, equal ones by key: first what is left of the entry
/// that the page before ended in. So a page costs no more than itself and the entry that it ends
/// in, however many documents are equal.
async fn backwards(
    snapshot: &mut SqliteConnection,
    filling: &mut Filling,
    index: (i64, i64),
    prefix: &SortKey,
    after: Option<&Place>,
) -> Result<(), Failure> {
    if let Some(after) = after.filter(|after| after.entry.starts_with(prefix)) {
        let query = sqlx::query(include_str!("sql/page_of_entry.sql"))
            .bind(index.0)
            .bind(index.1)
            .bind(&after.entry.as_bytes()[..])
            .bind(after.key.as_str())
            .bind(filling.rows());
        filling.fill(&mut *snapshot, query).await?;
        if filling.page.more {
            return Ok(());
        }
    }
    let end = after_prefix(prefix);
    let end = match (after.map(|after| &after.entry), &end) {
        (Some(entry), Some(end)) => Some(entry.min(end)),
        (Some(entry), None) => Some(entry),
        (None, end) => end.as_ref(),
    };
    let query = sqlx::query(include_str!("sql/page_by_entry_backwards.sql"))
        .bind(index.0)
        .bind(index.1)
        .bind(&prefix.as_bytes()[..])
        .bind(end.map_or(ENTRIES_END, |end| &end.as_bytes()[..]))
        .bind(filling.rows());
    filling.fill(snapshot, query).await
}

fn key(row: &SqliteRow) -> Result<DocumentKey, Failure> {
    let key: &str = row.try_get(0)?;
    DocumentKey::new(key)
        .map_err(|_| StoreError::Corrupt { reason: "a document's key is not one".into() }.into())
}

fn stored(row: &SqliteRow) -> Result<StoredDocument, Failure> {
    let data: String = row.try_get(2)?;
    Ok(StoredDocument { key: key(row)?, position: position(row.try_get(1)?), data: data.into() })
}
