//! Leases: one statement each.

use std::time::Duration;

use tidewire_eventstore::ProjectionName;

use super::{
    Shared,
    fault::Failure,
    server::acquire,
    wire::{number, optional, unsigned},
};
use crate::{
    StoreError,
    documents::{Fence, Held, NODE_BYTES_MAX, Owner, check::cut},
};

const CLAIM_PROJECTION: &str = include_str!("sql/claim_projection.sql");
const RENEW_LEASE: &str = include_str!("sql/renew_lease.sql");
const RELEASE_PROJECTION: &str = include_str!("sql/release_projection.sql");

/// On a connection of the commits', as a release: both wait for what is being committed, and the
/// leases of other projections must not wait with them.
pub(super) async fn claim(
    shared: &Shared,
    name: &ProjectionName,
    owner: &Owner,
    lease: Duration,
) -> Result<Option<Fence>, Failure> {
    let mut connection = acquire(&shared.commits).await?;
    let query = sqlx::query(CLAIM_PROJECTION)
        .bind(name.as_str())
        .bind(owner.id)
        .bind(cut(&owner.node, NODE_BYTES_MAX))
        .bind(lease.as_secs_f64());
    let row = shared.server.within(query.fetch_optional(&mut *connection)).await?;
    let row = row.ok_or(StoreError::Unknown)?;
    optional(&row, 0)?.map(|_| unsigned(&row, 0).map(Fence)).transpose()
}

pub(super) async fn renew(shared: &Shared, held: &Held, lease: Duration) -> Result<(), Failure> {
    let mut connection = acquire(&shared.leases).await?;
    let query = sqlx::query(RENEW_LEASE)
        .bind(held.name.as_str())
        .bind(number(held.fence.0))
        .bind(lease.as_secs_f64());
    let done = shared.server.within(query.execute(&mut *connection)).await?;
    if done.rows_affected() == 0 { Err(StoreError::Fenced.into()) } else { Ok(()) }
}

pub(super) async fn release(shared: &Shared, held: &Held) -> Result<(), Failure> {
    let mut connection = acquire(&shared.commits).await?;
    let query = sqlx::query(RELEASE_PROJECTION).bind(held.name.as_str()).bind(number(held.fence.0));
    shared.server.within(query.execute(&mut *connection)).await?;
    Ok(())
}
