//! Sweeping: what nobody reads any more goes in steps, and so do old tombstones.

use sqlx::{Connection as _, PgConnection};
use tidewire_eventstore::ProjectionName;

use super::{
    Shared,
    fault::Failure,
    generations::hold,
    server::acquire,
    wire::{number, unsigned},
};
use crate::documents::Held;

const FIND_RETIRED: &str = include_str!("sql/find_retired.sql");
const SHUT_GENERATION: &str = include_str!("sql/shut_generation.sql");
const SWEEP_DOCUMENTS: &str = include_str!("sql/sweep_documents.sql");
const SWEEP_DOCUMENT_INDEX: &str = include_str!("sql/sweep_document_index.sql");
const SWEEP_PROJECTION_PARKED: &str = include_str!("sql/sweep_projection_parked.sql");
const DELETE_GENERATION: &str = include_str!("sql/delete_generation.sql");
const COUNT_TOMBSTONES: &str = include_str!("sql/count_tombstones.sql");
const LOCK_GENERATION: &str = include_str!("sql/lock_generation.sql");
const SWEEP_TOMBSTONES: &str = include_str!("sql/sweep_tombstones.sql");

pub(super) async fn sweep(
    shared: &Shared,
    held: &Held,
    tombstones_kept: u64,
    limit: usize,
) -> Result<bool, Failure> {
    let mut connection = acquire(&shared.commits).await?;
    let holding = async {
        let mut transaction = connection.begin().await?;
        hold(&mut transaction, held).await?;
        transaction.commit().await?;
        Ok::<_, Failure>(())
    };
    shared.in_time(holding).await?;
    let mut left = limit.max(1) as u64;
    while left > 0 && retired(shared, &mut connection, &held.name, &mut left).await? {}
    if left > 0 {
        tombstones(shared, &mut connection, held, tombstones_kept, &mut left).await?;
    }
    Ok(left == 0)
}

/// Deletes of a generation that is nobody's, at most as many rows as are `left`. False: there is
/// none.
pub(super) async fn retired(
    shared: &Shared,
    connection: &mut PgConnection,
    name: &ProjectionName,
    left: &mut u64,
) -> Result<bool, Failure> {
    let server = &shared.server;
    let finding = sqlx::query(FIND_RETIRED).bind(name.as_str());
    let Some(row) = server.within(finding.fetch_optional(&mut *connection)).await? else {
        return Ok(false);
    };
    let generation = number(unsigned(&row, 0)?);
    let shutting = sqlx::query(SHUT_GENERATION).bind(generation);
    server.within(shutting.execute(&mut *connection)).await?;
    for statement in [SWEEP_DOCUMENTS, SWEEP_DOCUMENT_INDEX, SWEEP_PROJECTION_PARKED] {
        let deleting = sqlx::query(statement).bind(generation).bind(number(*left));
        let deleted = server.within(deleting.execute(&mut *connection)).await?.rows_affected();
        *left = left.saturating_sub(deleted);
        if *left == 0 {
            return Ok(true);
        }
    }
    let deleting = sqlx::query(DELETE_GENERATION).bind(generation);
    server.within(deleting.execute(&mut *connection)).await?;
    Ok(true)
}

/// Deletes tombstones that are too many, at most as many as are `left`.
async fn tombstones(
    shared: &Shared,
    connection: &mut PgConnection,
    held: &Held,
    kept: u64,
    left: &mut u64,
) -> Result<(), Failure> {
    let counting = sqlx::query(COUNT_TOMBSTONES).bind(held.name.as_str()).bind(number(kept));
    let counted = shared.server.within(counting.fetch_optional(&mut *connection)).await?;
    let Some(row) = counted else { return Ok(()) };
    let (generation, beyond) = (number(unsigned(&row, 0)?), unsigned(&row, 1)?);
    let step = beyond.min(*left);
    let deleting = async {
        let mut transaction = connection.begin().await?;
        hold(&mut transaction, held).await?;
        sqlx::query(LOCK_GENERATION).bind(generation).execute(&mut *transaction).await?;
        sqlx::query(SWEEP_TOMBSTONES)
            .bind(generation)
            .bind(number(step))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok::<_, Failure>(())
    };
    shared.in_time(deleting).await?;
    *left -= step;
    Ok(())
}
