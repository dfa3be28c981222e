//! Projections and their generations: registered, built, swapped, swept and forgotten.

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use tidewire_eventstore::{Generation, ProjectionName, Timestamp};

use super::{
    Failure, SqliteDocuments, commit::find_held, count, number, ownership::wish_named, position,
    unsigned,
};
use crate::documents::{Fence, GenerationStatus, Held, Status, Stopped, StoreError};

/// How many rows are deleted in one transaction where a projection is forgotten.
const FORGET_ROWS: usize = 5000;

/// Takes a number for a generation or a fence.
pub(super) async fn next_number(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let next: i64 =
        sqlx::query_scalar(include_str!("sql/next_number.sql")).fetch_one(connection).await?;
    Ok(unsigned(next))
}

async fn insert_generation(
    connection: &mut SqliteConnection,
    name: &ProjectionName,
    version: u32,
) -> Result<Generation, sqlx::Error> {
    let generation = next_number(&mut *connection).await?;
    sqlx::query(include_str!("sql/insert_generation.sql"))
        .bind(number(generation))
        .bind(name.as_str())
        .bind(version)
        .bind(Timestamp::now().as_micros())
        .execute(connection)
        .await?;
    Ok(Generation::new(generation))
}

/// Runs a statement about one generation.
async fn about(
    connection: &mut SqliteConnection,
    sql: &'static str,
    generation: Generation,
) -> Result<(), sqlx::Error> {
    sqlx::query(sql).bind(number(generation.get())).execute(connection).await.map(drop)
}

/// Deletes at most `limit` rows of a generation that nobody reads any more, and with the last of
/// them what is known of it; how many.
async fn sweep_generation(
    connection: &mut SqliteConnection,
    generation: Generation,
    limit: usize,
) -> Result<usize, sqlx::Error> {
    about(&mut *connection, include_str!("sql/mark_swept.sql"), generation).await?;
    let mut swept = 0;
    for sql in [
        include_str!("sql/delete_entries.sql"),
        include_str!("sql/delete_documents.sql"),
        include_str!("sql/delete_parked.sql"),
    ] {
        let deleted = sqlx::query(sql)
            .bind(number(generation.get()))
            .bind(count(limit - swept))
            .execute(&mut *connection)
            .await?;
        swept += usize::try_from(deleted.rows_affected()).unwrap_or(limit).min(limit - swept);
        if swept == limit {
            return Ok(swept);
        }
    }
    about(connection, include_str!("sql/delete_generation.sql"), generation).await?;
    Ok(swept)
}

async fn find_sweepable(
    connection: &mut SqliteConnection,
    name: &ProjectionName,
) -> Result<Option<Generation>, sqlx::Error> {
    let found: Option<i64> = sqlx::query_scalar(include_str!("sql/find_sweepable.sql"))
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(found.map(|generation| Generation::new(unsigned(generation))))
}

impl SqliteDocuments {
    pub(super) async fn register_now(
        &self,
        name: &ProjectionName,
        version: u32,
    ) -> Result<Status, Failure> {
        if let Some(status) = self.read_statuses(Some(name)).await?.pop() {
            return Ok(status);
        }
        let mut connection = self.commits.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let there: Option<SqliteRow> = sqlx::query(include_str!("sql/find_owner.sql"))
            .bind(name.as_str())
            .fetch_optional(writing.connection())
            .await?;
        if there.is_none() {
            let active = insert_generation(writing.connection(), name, version).await?;
            sqlx::query(include_str!("sql/insert_projection.sql"))
                .bind(name.as_str())
                .bind(number(active.get()))
                .execute(writing.connection())
                .await?;
        }
        writing.commit().await?;
        let status = self.read_statuses(Some(name)).await?.pop();
        Ok(status.ok_or(StoreError::Unknown)?)
    }

    pub(super) async fn read_statuses(
        &self,
        name: Option<&ProjectionName>,
    ) -> Result<Vec<Status>, Failure> {
        let rows = sqlx::query(include_str!("sql/read_statuses.sql"))
            .bind(name.map(ProjectionName::as_str))
            .bind(Timestamp::now().as_micros())
            .fetch_all(&self.reads)
            .await?;
        rows.iter().map(status).collect()
    }

    pub(super) async fn begin_now(&self, held: &Held, version: u32) -> Result<Generation, Failure> {
        let mut connection = self.commits.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let generations = find_held(writing.connection(), held).await?;
        if let Some(given_up) = generations.building {
            about(writing.connection(), include_str!("sql/retire.sql"), given_up).await?;
        }
        let building = insert_generation(writing.connection(), &held.name, version).await?;
        sqlx::query(include_str!("sql/set_building.sql"))
            .bind(held.name.as_str())
            .bind(number(building.get()))
            .execute(writing.connection())
            .await?;
        writing.commit().await?;
        Ok(building)
    }

    pub(super) async fn swap_now(
        &self,
        held: &Held,
        generation: Generation,
    ) -> Result<bool, Failure> {
        let mut connection = self.commits.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let generations = find_held(writing.connection(), held).await?;
        if generations.building != Some(generation) {
            return Err(StoreError::Conflict.into());
        }
        let swapped = sqlx::query(include_str!("sql/swap.sql"))
            .bind(held.name.as_str())
            .bind(number(generation.get()))
            .execute(writing.connection())
            .await?;
        if swapped.rows_affected() == 0 {
            return Ok(false);
        }
        about(writing.connection(), include_str!("sql/retire.sql"), generations.active).await?;
        writing.commit().await?;
        Ok(true)
    }

    pub(super) async fn give_up_now(
        &self,
        held: &Held,
        generation: Generation,
    ) -> Result<(), Failure> {
        let mut connection = self.commits.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        if find_held(writing.connection(), held).await?.building != Some(generation) {
            return Err(StoreError::Conflict.into());
        }
        about(writing.connection(), include_str!("sql/retire.sql"), generation).await?;
        sqlx::query(include_str!("sql/set_building.sql"))
            .bind(held.name.as_str())
            .bind(None::<i64>)
            .execute(writing.connection())
            .await?;
        writing.commit().await
    }

    pub(super) async fn sweep_now(
        &self,
        held: &Held,
        tombstones_kept: u64,
        limit: usize,
    ) -> Result<bool, Failure> {
        let mut connection = self.commits.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let active = find_held(writing.connection(), held).await?.active;
        let mut left = limit.max(1);
        while left > 0
            && let Some(retired) = find_sweepable(writing.connection(), &held.name).await?
        {
            left -= sweep_generation(writing.connection(), retired, left).await?;
        }
        left -= sweep_tombstones(writing.connection(), active, tombstones_kept, left).await?;
        writing.commit().await?;
        Ok(left == 0)
    }

    pub(super) async fn forget_now(&self, name: &ProjectionName) -> Result<bool, Failure> {
        let mut connection = self.commits.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let there: Option<SqliteRow> = sqlx::query(include_str!("sql/find_owner.sql"))
            .bind(name.as_str())
            .fetch_optional(writing.connection())
            .await?;
        if there.is_none() {
            return Ok(false);
        }
        let forgotten = sqlx::query(include_str!("sql/delete_projection.sql"))
            .bind(name.as_str())
            .bind(Timestamp::now().as_micros())
            .execute(writing.connection())
            .await?;
        if forgotten.rows_affected() == 0 {
            return Err(StoreError::Owned.into());
        }
        sqlx::query(include_str!("sql/mark_all_swept.sql"))
            .bind(name.as_str())
            .execute(writing.connection())
            .await?;
        writing.commit().await?;
        // It is forgotten; what is left is only in the way. Cut short, the next sweep goes on.
        loop {
            let mut writing = self.write(&mut connection).await?;
            let Some(left) = find_sweepable(writing.connection(), name).await? else {
                return Ok(true);
            };
            sweep_generation(writing.connection(), left, FORGET_ROWS).await?;
            writing.commit().await?;
        }
    }
}

/// Forgets the oldest tombstones beyond the newest `kept`, at most `limit`; how many.
async fn sweep_tombstones(
    connection: &mut SqliteConnection,
    generation: Generation,
    kept: u64,
    limit: usize,
) -> Result<usize, sqlx::Error> {
    let there: i64 = sqlx::query_scalar(include_str!("sql/count_tombstones.sql"))
        .bind(number(generation.get()))
        .fetch_one(&mut *connection)
        .await?;
    let beyond = usize::try_from(unsigned(there).saturating_sub(kept)).unwrap_or(usize::MAX);
    let limit = limit.min(beyond);
    if limit == 0 {
        return Ok(0);
    }
    let swept: Vec<i64> = sqlx::query_scalar(include_str!("sql/delete_tombstones.sql"))
        .bind(number(generation.get()))
        .bind(count(limit))
        .fetch_all(&mut *connection)
        .await?;
    sqlx::query(include_str!("sql/raise_changes_from.sql"))
        .bind(number(generation.get()))
        .bind(swept.iter().max().copied().unwrap_or_default())
        .execute(connection)
        .await?;
    Ok(swept.len().min(limit))
}

fn status(row: &SqliteRow) -> Result<Status, Failure> {
    let corrupt = |what: &str| StoreError::Corrupt { reason: format!("{what} is not one") };
    let name: &str = row.try_get(0)?;
    let wish: Option<&str> = row.try_get(2)?;
    let node: Option<&str> = row.try_get(3)?;
    let lease_until: Option<i64> = row.try_get(4)?;
    let building: Option<i64> = row.try_get(13)?;
    Ok(Status {
        name: ProjectionName::recorded(name).map_err(|_| corrupt("a projection's name"))?,
        active: generation_status(row, 5)?,
        building: building.map(|_| generation_status(row, 13)).transpose()?,
        owner: node
            .zip(lease_until)
            .map(|(node, until)| (node.into(), Timestamp::from_micros(until))),
        fence: Fence(unsigned(row.try_get(1)?)),
        wish: wish.map(|wish| wish_named(wish).ok_or(corrupt("a wish"))).transpose()?,
    })
}

/// What is known of the generation in the columns from `first` on.
fn generation_status(row: &SqliteRow, first: usize) -> Result<GenerationStatus, Failure> {
    let stopped_position: Option<i64> = row.try_get(first + 6)?;
    let stopped_reason: Option<String> = row.try_get(first + 7)?;
    Ok(GenerationStatus {
        generation: Generation::new(unsigned(row.try_get(first)?)),
        version: row.try_get(first + 1)?,
        checkpoint: position(row.try_get(first + 2)?),
        began_at: Timestamp::from_micros(row.try_get(first + 3)?),
        parked: unsigned(row.try_get(first + 4)?),
        changes_from: position(row.try_get(first + 5)?),
        stopped: stopped_reason
            .map(|reason| Stopped { position: stopped_position.map(position), reason }),
    })
}
