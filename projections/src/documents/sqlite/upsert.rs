//! The rows of a commit, in few statements of many rows.
//!
//! In the order of their keys, so that neighbours in the file are written together; and of index
//! entries only those that change.

use std::sync::{Arc, LazyLock};

use sqlx::{AssertSqlSafe, SqliteConnection};
use tidewire_eventstore::{DocumentKey, GlobalPosition};
use tidewire_protocol::query::SortKey;

use super::number;
use crate::documents::{StoreError, Write};

/// How many rows one statement takes, largest first. Each is prepared once; a commit is cut into
/// as few of them as its size allows. At most 4 binds a row stay far below SQLite's 32,766.
const CHUNK_ROWS: [usize; 4] = [512, 64, 8, 1];

/// One statement for each of [`CHUNK_ROWS`].
type Statements = [Arc<str>; CHUNK_ROWS.len()];

static UPSERT_DOCUMENTS: LazyLock<Statements> = LazyLock::new(|| {
    statements(
        "INSERT INTO documents (generation, key, position, data) VALUES ",
        "(?, ?, ?, ?)",
        " ON CONFLICT (generation, key) \
         DO UPDATE SET position = excluded.position, data = excluded.data",
    )
});

static INSERT_ENTRIES: LazyLock<Statements> = LazyLock::new(|| {
    statements(
        "INSERT INTO document_entries (generation, number, entry, key) VALUES ",
        "(?, ?, ?, ?)",
        " ON CONFLICT DO NOTHING",
    )
});

static DELETE_ENTRIES: LazyLock<Statements> = LazyLock::new(|| {
    statements(
        "DELETE FROM document_entries WHERE (generation, number, entry, key) IN (VALUES ",
        "(?, ?, ?, ?)",
        ")",
    )
});

fn statements(before: &str, row: &str, after: &str) -> Statements {
    CHUNK_ROWS.map(|rows| format!("{before}{}{after}", vec![row; rows].join(", ")).into())
}

/// An entry of an index.
type Entry<'a> = (u16, &'a SortKey, &'a DocumentKey);

/// A document, as it is written.
type Document<'a> = (&'a DocumentKey, GlobalPosition, Option<&'a str>);

/// What a commit writes.
pub(super) struct Rows<'a> {
    documents: Vec<Document<'a>>,
    gone: Vec<Entry<'a>>,
    new: Vec<Entry<'a>>,
}

impl<'a> Rows<'a> {
    /// Sorts what is written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] where a document is no text.
    pub(super) fn of(writes: &'a [Write]) -> Result<Self, StoreError> {
        let mut documents = Vec::with_capacity(writes.len());
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for write in writes {
            let text = write.data.as_deref().map(std::str::from_utf8).transpose();
            let text =
                text.map_err(|_| StoreError::Refused { reason: "a document is not UTF-8".into() })?;
            documents.push((&write.key, write.position, text));
            let (before, after) = (&write.indexed_before, &write.indexed_after);
            for (index, entry) in (0..).zip(before) {
                if after.get(usize::from(index)) != Some(entry) {
                    gone.push((index, entry, &write.key));
                }
            }
            for (index, entry) in (0..).zip(after) {
                if before.get(usize::from(index)) != Some(entry) {
                    new.push((index, entry, &write.key));
                }
            }
        }
        documents.sort_unstable_by_key(|(key, ..)| *key);
        gone.sort_unstable();
        new.sort_unstable();
        Ok(Self { documents, gone, new })
    }

    /// Writes it.
    pub(super) async fn write(
        &self,
        connection: &mut SqliteConnection,
        generation: i64,
    ) -> Result<(), sqlx::Error> {
        in_chunks(&mut *connection, &UPSERT_DOCUMENTS, &self.documents, |query, row| {
            let (key, position, text) = *row;
            query.bind(generation).bind(key.as_str()).bind(number(position.get())).bind(text)
        })
        .await?;
        for (sql, entries) in [(&DELETE_ENTRIES, &self.gone), (&INSERT_ENTRIES, &self.new)] {
            in_chunks(&mut *connection, sql, entries, |query, row| {
                let (index, entry, key) = *row;
                let entry: &[u8] = entry.as_bytes();
                query.bind(generation).bind(i64::from(index)).bind(entry).bind(key.as_str())
            })
            .await?;
        }
        Ok(())
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Runs a statement over rows, each bound by `bind`.
async fn in_chunks<'a, Row>(
    connection: &mut SqliteConnection,
    statements: &Statements,
    mut rows: &'a [Row],
    bind: impl Fn(Query<'a>, &'a Row) -> Query<'a>,
) -> Result<(), sqlx::Error> {
    for (size, sql) in CHUNK_ROWS.iter().zip(statements) {
        while let Some((chunk, rest)) = rows.split_at_checked(*size) {
            let query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
            chunk.iter().fold(query, &bind).execute(&mut *connection).await?;
            rows = rest;
        }
    }
    Ok(())
}
