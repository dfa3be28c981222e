//! Commits: documents, index entries, parked events and the checkpoint in one transaction, that
//! need not be durable at once.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgTransaction};
use tidewire_eventstore::{
    plant::Plant,
    postgres::driver::{Fault, RawJson},
};
use tidewire_protocol::query::SortKey;

use super::{
    Shared,
    fault::{Failure, of_statement},
    server::acquire,
    wire::{boolean, number, optional, unsigned},
};
use crate::{
    StoreError,
    documents::{
        Commit, Parked, REASON_BYTES_MAX, SqlBatch, Write,
        check::{PLANTED_PAUSE, check, cut},
    },
};

const RELAX_DURABILITY: &str = include_str!("sql/relax_durability.sql");
const MOVE_CHECKPOINT: &str = include_str!("sql/move_checkpoint.sql");
const FIND_COMMIT: &str = include_str!("sql/find_commit.sql");
const WRITE_DOCUMENTS: &str = include_str!("sql/write_documents.sql");
const UNINDEX_DOCUMENTS: &str = include_str!("sql/unindex_documents.sql");
const INDEX_DOCUMENTS: &str = include_str!("sql/index_documents.sql");
const PARK_EVENTS: &str = include_str!("sql/park_events.sql");
const PREPARE_STATEMENT: &str = include_str!("sql/prepare_statement.sql");
const CHECK_CONSTRAINTS: &str = include_str!("sql/check_constraints.sql");

/// About how many bytes of documents one statement takes.
const CHUNK_BYTES: usize = 4 << 20;

pub(super) async fn commit(shared: &Shared, mut commit: Commit) -> Result<(), Failure> {
    check(&commit)?;
    // Neighbours in the index are written one after the other.
    commit.writes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let mut connection = acquire(&shared.commits).await?;
    let mut transaction = shared.server.within(begin(&mut connection)).await?;
    let count = match write(&mut transaction, shared, &commit).await {
        Ok(count) => count,
        Err(failure) => {
            drop(transaction);
            if let Failure::Fault(Fault::Lost(_)) = failure {
                connection.close_on_drop();
            }
            return Err(failure);
        }
    };
    match shared.server.within(transaction.commit()).await {
        Ok(()) => Ok(()),
        Err(Fault::Lost(reason)) => {
            connection.close_on_drop();
            tracing::debug!(reason, "lost the answer to a commit of documents");
            find(shared, &commit, count).await
        }
        Err(fault) => Err(fault.into()),
    }
}

async fn begin(connection: &mut PgConnection) -> Result<PgTransaction<'_>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(RELAX_DURABILITY).execute(&mut *transaction).await?;
    Ok(transaction)
}

/// Writes everything, and tells the number that the commit has among those of its generation.
async fn write(
    connection: &mut PgConnection,
    shared: &Shared,
    commit: &Commit,
) -> Result<u64, Failure> {
    let server = &shared.server;
    let moving = sqlx::query(MOVE_CHECKPOINT)
        .bind(commit.held.name.as_str())
        .bind(number(commit.held.fence.0))
        .bind(number(commit.generation.get()))
        .bind(number(commit.expected.get()))
        .bind(number(commit.position.get()));
    let moved = server.within(moving.fetch_one(&mut *connection)).await?;
    if !boolean(&moved, 0)? {
        return Err(StoreError::Fenced.into());
    }
    if optional(&moved, 1)?.is_none() {
        return Err(StoreError::Conflict.into());
    }
    let count = unsigned(&moved, 1)?;
    if Plant::CheckpointBeforeDocuments.is_active() {
        server.within(sqlx::raw_sql("COMMIT").execute(&mut *connection)).await?;
        tokio::time::sleep(PLANTED_PAUSE).await;
        server.within(sqlx::raw_sql("BEGIN").execute(&mut *connection)).await?;
    }
    let generation = number(commit.generation.get());
    let mut rest = commit.writes.as_slice();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(chunk_len(rest));
        server.within(write_documents(connection, generation, chunk)).await?;
        rest = after;
    }
    fix_indexes(connection, shared, generation, &commit.writes).await?;
    if !commit.parked.is_empty() {
        server.within(park(connection, generation, &commit.parked)).await?;
    }
    if let Some(batch) = &commit.sql {
        run(connection, shared, generation, batch).await?;
    }
    Ok(count)
}

/// How many of `writes` go into one statement.
fn chunk_len(writes: &[Write]) -> usize {
    let mut bytes = 0;
    let fits = |write: &&Write| {
        let before = bytes;
        bytes += write.data.as_ref().map_or(0, bytes::Bytes::len);
        before < CHUNK_BYTES
    };
    writes.iter().take_while(fits).count()
}

async fn write_documents(
    connection: &mut PgConnection,
    generation: i64,
    writes: &[Write],
) -> Result<(), sqlx::Error> {
    let keys: Vec<&str> = writes.iter().map(|write| write.key.as_str()).collect();
    let positions: Vec<i64> = writes.iter().map(|write| number(write.position.get())).collect();
    let contents: Vec<Option<RawJson<'_>>> =
        writes.iter().map(|write| write.data.as_ref().map(|data| RawJson(data))).collect();
    sqlx::query(WRITE_DOCUMENTS)
        .bind(generation)
        .bind(keys)
        .bind(positions)
        .bind(contents)
        .execute(connection)
        .await?;
    Ok(())
}

/// Entries of documents in indexes, a column each.
#[derive(Default)]
struct Entries<'a> {
    numbers: Vec<i16>,
    entries: Vec<&'a [u8]>,
    keys: Vec<&'a str>,
}

impl<'a> Entries<'a> {
    fn push(&mut self, number: usize, entry: &'a SortKey, write: &'a Write) {
        self.numbers.push(i16::try_from(number).unwrap_or(i16::MAX));
        self.entries.push(entry.as_bytes());
        self.keys.push(write.key.as_str());
    }

    async fn give(
        &self,
        statement: &'static str,
        connection: &mut PgConnection,
        generation: i64,
    ) -> Result<(), sqlx::Error> {
        if !self.keys.is_empty() {
            sqlx::query(statement)
                .bind(generation)
                .bind(&self.numbers)
                .bind(&self.entries)
                .bind(&self.keys)
                .execute(connection)
                .await?;
        }
        Ok(())
    }
}

/// Changes the entries that are not the same afterwards.
async fn fix_indexes(
    connection: &mut PgConnection,
    shared: &Shared,
    generation: i64,
    writes: &[Write],
) -> Result<(), Failure> {
    let (mut old, mut new) = (Entries::default(), Entries::default());
    for write in writes {
        let (before, after) = (&write.indexed_before, &write.indexed_after);
        for number in 0..before.len().max(after.len()) {
            let (before, after) = (before.get(number), after.get(number));
            if before != after {
                before.into_iter().for_each(|entry| old.push(number, entry, write));
                after.into_iter().for_each(|entry| new.push(number, entry, write));
            }
        }
    }
    shared.server.within(old.give(UNINDEX_DOCUMENTS, connection, generation)).await?;
    shared.server.within(new.give(INDEX_DOCUMENTS, connection, generation)).await?;
    Ok(())
}

async fn park(
    connection: &mut PgConnection,
    generation: i64,
    parked: &[Parked],
) -> Result<(), sqlx::Error> {
    let positions: Vec<i64> = parked.iter().map(|parked| number(parked.position.get())).collect();
    let reasons: Vec<String> =
        parked.iter().map(|parked| cut(&parked.reason, REASON_BYTES_MAX)).collect();
    sqlx::query(PARK_EVENTS)
        .bind(generation)
        .bind(positions)
        .bind(reasons)
        .execute(connection)
        .await?;
    Ok(())
}

/// Runs the statement of a SQL projection, last in the transaction: what it sets has no effect on
/// our own. A failure undoes all of the transaction.
async fn run(
    connection: &mut PgConnection,
    shared: &Shared,
    generation: i64,
    batch: &SqlBatch,
) -> Result<(), Failure> {
    shared.server.within(sqlx::raw_sql(PREPARE_STATEMENT).execute(&mut *connection)).await?;
    let running = async {
        sqlx::query(AssertSqlSafe(batch.statement.to_string()))
            .bind(RawJson(&batch.events))
            .bind(generation)
            .execute(&mut *connection)
            .await?;
        sqlx::raw_sql(CHECK_CONSTRAINTS).execute(&mut *connection).await?;
        Ok(())
    };
    shared.server.in_time(running).await?.map_err(of_statement)
}

/// What became of a commit whose answer was lost: the old session ends, or has ended, before its
/// lock on the generation is free.
async fn find(shared: &Shared, commit: &Commit, count: u64) -> Result<(), Failure> {
    let mut connection = shared.server.connect().await?;
    let query = sqlx::query(FIND_COMMIT)
        .bind(commit.held.name.as_str())
        .bind(number(commit.held.fence.0))
        .bind(number(commit.generation.get()));
    let row = shared.server.within(query.fetch_optional(&mut connection)).await?;
    let row = row.ok_or(StoreError::Conflict)?;
    if !boolean(&row, 1)? {
        return Err(StoreError::Fenced.into());
    }
    if unsigned(&row, 0)? < count { Err(StoreError::Unavailable.into()) } else { Ok(()) }
}
