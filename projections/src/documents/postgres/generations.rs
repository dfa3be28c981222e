//! Generations: begun, swapped, stopped, under the fence of the owner.

use sqlx::{Connection as _, PgConnection, PgTransaction};
use tidewire_eventstore::{Generation, postgres::driver::Fault};

use super::{
    Shared,
    fault::Failure,
    names::word,
    server::acquire,
    wire::{number, optional, unsigned},
};
use crate::{
    StoreError,
    documents::{Held, REASON_BYTES_MAX, Stopped, Wish, check::cut},
};

const LOCK_PROJECTION: &str = include_str!("sql/lock_projection.sql");
const HOLD_PROJECTION: &str = include_str!("sql/hold_projection.sql");
const BEGIN_GENERATION: &str = include_str!("sql/begin_generation.sql");
const GIVE_UP_GENERATION: &str = include_str!("sql/give_up_generation.sql");
const SWAP_GENERATIONS: &str = include_str!("sql/swap_generations.sql");
const CLEAR_WISH: &str = include_str!("sql/clear_wish.sql");
const SET_STOPPED: &str = include_str!("sql/set_stopped.sql");

/// Which generations a projection has.
struct Generations {
    active: Generation,
    building: Option<Generation>,
}

/// Keeps a projection's generations as they are, if the fence is the present one.
async fn lock(connection: &mut PgConnection, held: &Held) -> Result<Generations, Failure> {
    let row = sqlx::query(LOCK_PROJECTION)
        .bind(held.name.as_str())
        .bind(number(held.fence.0))
        .fetch_optional(connection)
        .await?;
    let row = row.ok_or(StoreError::Fenced)?;
    Ok(Generations {
        active: Generation::new(unsigned(&row, 0)?),
        building: match optional(&row, 1)? {
            Some(_) => Some(Generation::new(unsigned(&row, 1)?)),
            None => None,
        },
    })
}

/// Keeps others from claiming a projection while this transaction lasts.
pub(super) async fn hold(connection: &mut PgConnection, held: &Held) -> Result<(), Failure> {
    let row = sqlx::query(HOLD_PROJECTION)
        .bind(held.name.as_str())
        .bind(number(held.fence.0))
        .fetch_optional(connection)
        .await?;
    row.map(drop).ok_or_else(|| StoreError::Fenced.into())
}

pub(super) async fn begin(
    shared: &Shared,
    held: &Held,
    version: u32,
) -> Result<Generation, Failure> {
    let mut connection = acquire(&shared.commits).await?;
    let beginning = async {
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, held).await?;
        let row = sqlx::query(BEGIN_GENERATION)
            .bind(held.name.as_str())
            .bind(i64::from(version))
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Generation::new(unsigned(&row, 0)?))
    };
    // Where the answer is lost, so is the generation: the next one that is begun retires it.
    shared.in_time(beginning).await
}

pub(super) async fn swap(
    shared: &Shared,
    held: &Held,
    generation: Generation,
) -> Result<bool, Failure> {
    let mut connection = acquire(&shared.commits).await?;
    let (transaction, swapped) = shared
        .in_time(async {
            let mut transaction = connection.begin().await?;
            let generations = lock(&mut transaction, held).await?;
            if generations.building != Some(generation) {
                return Err(StoreError::Conflict.into());
            }
            let done = sqlx::query(SWAP_GENERATIONS)
                .bind(held.name.as_str())
                .execute(&mut *transaction)
                .await?;
            Ok((transaction, done.rows_affected() == 1))
        })
        .await?;
    match shared.server.within(transaction.commit()).await {
        Err(Fault::Lost(reason)) if swapped => was_swapped(shared, held, generation, reason).await,
        ended => Ok(ended.map(|()| swapped)?),
    }
}

/// Whether a swap whose answer was lost took place: looks once the lock is free.
async fn was_swapped(
    shared: &Shared,
    held: &Held,
    generation: Generation,
    reason: String,
) -> Result<bool, Failure> {
    tracing::debug!(reason, "lost the answer to a swap");
    let mut connection = shared.server.connect().await?;
    let looking = async {
        let mut transaction = connection.begin().await?;
        let generations = lock(&mut transaction, held).await?;
        transaction.rollback().await?;
        Ok::<_, Failure>(generations.active == generation)
    };
    if shared.in_time(looking).await? { Ok(true) } else { Err(StoreError::Unavailable.into()) }
}

pub(super) async fn give_up(
    shared: &Shared,
    held: &Held,
    generation: Generation,
) -> Result<(), Failure> {
    let mut connection = acquire(&shared.commits).await?;
    let giving_up = async {
        let mut transaction = connection.begin().await?;
        if lock(&mut transaction, held).await?.building != Some(generation) {
            return Err(StoreError::Conflict.into());
        }
        sqlx::query(GIVE_UP_GENERATION).bind(held.name.as_str()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    };
    shared.in_time(giving_up).await
}

pub(super) async fn wish_followed(shared: &Shared, held: &Held, wish: Wish) -> Result<(), Failure> {
    let mut connection = acquire(&shared.leases).await?;
    let query = sqlx::query(CLEAR_WISH)
        .bind(held.name.as_str())
        .bind(number(held.fence.0))
        .bind(word(wish));
    let done = shared.server.within(query.execute(&mut *connection)).await?;
    if done.rows_affected() == 0 { Err(StoreError::Fenced.into()) } else { Ok(()) }
}

pub(super) async fn set_stopped(
    shared: &Shared,
    held: &Held,
    generation: Generation,
    stopped: Option<Stopped>,
) -> Result<(), Failure> {
    let mut connection = acquire(&shared.commits).await?;
    let writing = async {
        let mut transaction: PgTransaction<'_> = connection.begin().await?;
        hold(&mut transaction, held).await?;
        let position = stopped.as_ref().and_then(|stopped| stopped.position);
        let reason = stopped.map(|stopped| cut(&stopped.reason, REASON_BYTES_MAX));
        let done = sqlx::query(SET_STOPPED)
            .bind(held.name.as_str())
            .bind(number(generation.get()))
            .bind(reason)
            .bind(position.map(|position| number(position.get())))
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Conflict.into());
        }
        transaction.commit().await?;
        Ok(())
    };
    shared.in_time(writing).await
}
