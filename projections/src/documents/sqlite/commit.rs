//! The commit: fence, checkpoint, documents, index entries and what was parked, in one transaction.

use sqlx::SqliteConnection;
use tidewire_eventstore::{Generation, plant::Plant};

use super::{Failure, SqliteDocuments, number, unsigned, upsert};
use crate::documents::{
    Commit, Held, REASON_BYTES_MAX, StoreError,
    check::{PLANTED_PAUSE, check, cut},
};

/// The generations of a projection that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generations {
    pub(super) active: Generation,
    pub(super) building: Option<Generation>,
}

impl Generations {
    /// Demands that a generation is one of those that are written.
    pub(super) fn demand(&self, generation: Generation) -> Result<(), StoreError> {
        if self.active == generation || self.building == Some(generation) {
            Ok(())
        } else {
            Err(StoreError::Conflict)
        }
    }
}

/// Demands that a projection is still held.
pub(super) async fn find_held(
    connection: &mut SqliteConnection,
    held: &Held,
) -> Result<Generations, Failure> {
    let found: Option<(i64, Option<i64>)> = sqlx::query_as(include_str!("sql/find_held.sql"))
        .bind(held.name.as_str())
        .bind(number(held.fence.0))
        .fetch_optional(connection)
        .await?;
    let (active, building) = found.ok_or(StoreError::Fenced)?;
    let generation = |number| Generation::new(unsigned(number));
    Ok(Generations { active: generation(active), building: building.map(generation) })
}

impl SqliteDocuments {
    pub(super) async fn commit_now(&self, commit: Commit) -> Result<(), Failure> {
        check(&commit)?;
        if commit.sql.is_some() {
            let reason = "statements run in PostgreSQL only".into();
            return Err(StoreError::Refused { reason }.into());
        }
        let rows = upsert::Rows::of(&commit.writes)?;
        let generation = number(commit.generation.get());
        let mut connection = self.commits.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        find_held(writing.connection(), &commit.held).await?.demand(commit.generation)?;
        let moved = sqlx::query(include_str!("sql/move_checkpoint.sql"))
            .bind(generation)
            .bind(number(commit.expected.get()))
            .bind(number(commit.position.get()))
            .execute(writing.connection())
            .await?;
        if moved.rows_affected() == 0 {
            return Err(StoreError::Conflict.into());
        }
        if Plant::CheckpointBeforeDocuments.is_active() {
            sqlx::raw_sql("COMMIT").execute(writing.connection()).await?;
            tokio::time::sleep(PLANTED_PAUSE).await;
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(writing.connection()).await?;
        }
        rows.write(writing.connection(), generation).await?;
        for parked in &commit.parked {
            sqlx::query(include_str!("sql/park_event.sql"))
                .bind(generation)
                .bind(number(parked.position.get()))
                .bind(cut(&parked.reason, REASON_BYTES_MAX))
                .execute(writing.connection())
                .await?;
        }
        if !commit.parked.is_empty() {
            sqlx::query(include_str!("sql/count_parked.sql"))
                .bind(generation)
                .execute(writing.connection())
                .await?;
        }
        writing.commit().await
    }
}
