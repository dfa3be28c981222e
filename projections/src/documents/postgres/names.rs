//! Projections by their names: making them known, what is known of them, what is wished of them.

use std::sync::Arc;

use sqlx::{Connection as _, postgres::PgRow};
use tidewire_eventstore::{Generation, ProjectionName};

use super::{
    Shared,
    fault::Failure,
    server::acquire,
    sweep,
    wire::{boolean, corrupt, moment, optional, optional_text, position, text, unsigned},
};
use crate::{
    StoreError,
    documents::{Fence, GenerationStatus, Status, Stopped, Wish},
};

const REGISTER_PROJECTION: &str = include_str!("sql/register_projection.sql");
const READ_PROJECTIONS: &str = include_str!("sql/read_projections.sql");
const SET_WISH: &str = include_str!("sql/set_wish.sql");
const LOCK_NAME: &str = include_str!("sql/lock_name.sql");
const DELETE_PROJECTION: &str = include_str!("sql/delete_projection.sql");

/// How many rows one step of forgetting deletes.
const FORGET_STEP: u64 = 10_000;

pub(super) async fn register(
    shared: &Shared,
    name: &ProjectionName,
    version: u32,
) -> Result<Status, Failure> {
    let mut connection = acquire(&shared.commits).await?;
    let query = sqlx::query(REGISTER_PROJECTION).bind(name.as_str()).bind(i64::from(version));
    shared.server.within(query.execute(&mut *connection)).await?;
    drop(connection);
    // Nobody but `forget` can have come between.
    status(shared, name).await?.ok_or_else(|| StoreError::Unavailable.into())
}

pub(super) async fn status(
    shared: &Shared,
    name: &ProjectionName,
) -> Result<Option<Status>, Failure> {
    Ok(read(shared, Some(name)).await?.pop())
}

pub(super) async fn statuses(shared: &Shared) -> Result<Vec<Status>, Failure> {
    read(shared, None).await
}

async fn read(shared: &Shared, name: Option<&ProjectionName>) -> Result<Vec<Status>, Failure> {
    let mut connection = acquire(&shared.reads).await?;
    let query = sqlx::query(READ_PROJECTIONS).bind(name.map(ProjectionName::as_str));
    let rows = shared.server.within(query.fetch_all(&mut *connection)).await?;
    rows.iter().map(decode).collect()
}

/// The column of the active generation's number; its other columns follow, then the building one's.
const ACTIVE: usize = 5;
const COLUMNS_OF_A_GENERATION: usize = 8;

fn decode(row: &PgRow) -> Result<Status, Failure> {
    let building = ACTIVE + COLUMNS_OF_A_GENERATION;
    Ok(Status {
        name: ProjectionName::recorded(text(row, 0)?).map_err(corrupt)?,
        fence: Fence(unsigned(row, 1)?),
        wish: optional_text(row, 2)?.map(wish_of).transpose()?,
        owner: match optional_text(row, 3)? {
            Some(node) => Some((Arc::from(node), moment(row, 4)?)),
            None => None,
        },
        active: generation(row, ACTIVE)?,
        building: match optional(row, building)? {
            Some(_) => Some(generation(row, building)?),
            None => None,
        },
    })
}

fn generation(row: &PgRow, column: usize) -> Result<GenerationStatus, Failure> {
    Ok(GenerationStatus {
        generation: Generation::new(unsigned(row, column)?),
        version: u32::try_from(unsigned(row, column + 1)?).map_err(corrupt)?,
        checkpoint: position(row, column + 2)?,
        began_at: moment(row, column + 3)?,
        parked: unsigned(row, column + 4)?,
        stopped: match optional_text(row, column + 5)? {
            Some(reason) => {
                let at = optional(row, column + 6)?.map(|_| position(row, column + 6));
                Some(Stopped { position: at.transpose()?, reason: reason.to_owned() })
            }
            None => None,
        },
        changes_from: position(row, column + 7)?,
    })
}

pub(super) async fn wish(
    shared: &Shared,
    name: &ProjectionName,
    wish: Wish,
) -> Result<(), Failure> {
    let mut connection = acquire(&shared.leases).await?;
    let query = sqlx::query(SET_WISH).bind(name.as_str()).bind(word(wish));
    let done = shared.server.within(query.execute(&mut *connection)).await?;
    if done.rows_affected() == 0 { Err(StoreError::Unknown.into()) } else { Ok(()) }
}

/// A wish as it is kept.
pub(super) fn word(wish: Wish) -> &'static str {
    match wish {
        Wish::Rebuild => "rebuild",
        Wish::Cancel => "cancel",
        Wish::Resume => "resume",
        Wish::Skip => "skip",
    }
}

fn wish_of(word: &str) -> Result<Wish, Failure> {
    match word {
        "rebuild" => Ok(Wish::Rebuild),
        "cancel" => Ok(Wish::Cancel),
        "resume" => Ok(Wish::Resume),
        "skip" => Ok(Wish::Skip),
        other => Err(corrupt(format!("a wish that is none: {other}"))),
    }
}

/// Forgets a projection: at once for everybody, and its documents in steps.
pub(super) async fn forget(shared: &Shared, name: &ProjectionName) -> Result<bool, Failure> {
    let mut connection = acquire(&shared.commits).await?;
    let deleting = async {
        let mut transaction = connection.begin().await?;
        let row =
            sqlx::query(LOCK_NAME).bind(name.as_str()).fetch_optional(&mut *transaction).await?;
        let owned = row.as_ref().map(|row| boolean(row, 0)).transpose()?;
        match owned {
            Some(true) => return Err(StoreError::Owned.into()),
            Some(false) => {
                sqlx::query(DELETE_PROJECTION)
                    .bind(name.as_str())
                    .execute(&mut *transaction)
                    .await?;
            }
            None => {}
        }
        transaction.commit().await?;
        Ok::<_, Failure>(owned.is_some())
    };
    let existed = shared.in_time(deleting).await?;
    while sweep::retired(shared, &mut connection, name, &mut { FORGET_STEP }).await? {}
    Ok(existed)
}
