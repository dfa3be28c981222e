//! Who writes a projection, what it is asked, and why it goes no further.

use std::time::Duration;

use tidewire_eventstore::{Generation, ProjectionName, Timestamp};
use uuid::Uuid;

use super::{Failure, SqliteDocuments, commit::find_held, generations::next_number, number};
use crate::documents::{
    Fence, Held, NODE_BYTES_MAX, Owner, REASON_BYTES_MAX, Stopped, StoreError, Wish, check::cut,
};

/// When a lease runs out that begins now.
fn until(lease: Duration) -> i64 {
    let lease = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
    Timestamp::now().as_micros().saturating_add(lease)
}

/// How a wish is written down.
pub(super) const fn wish_name(wish: Wish) -> &'static str {
    match wish {
        Wish::Rebuild => "rebuild",
        Wish::Cancel => "cancel",
        Wish::Resume => "resume",
        Wish::Skip => "skip",
    }
}

/// What was written down as `name`.
pub(super) fn wish_named(name: &str) -> Option<Wish> {
    let all = [Wish::Rebuild, Wish::Cancel, Wish::Resume, Wish::Skip];
    all.into_iter().find(|wish| wish_name(*wish) == name)
}

impl SqliteDocuments {
    pub(super) async fn claim_now(
        &self,
        name: &ProjectionName,
        owner: &Owner,
        lease: Duration,
    ) -> Result<Option<Fence>, Failure> {
        let mut connection = self.ownership.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let found: Option<(Option<Uuid>, Option<i64>)> =
            sqlx::query_as(include_str!("sql/find_owner.sql"))
                .bind(name.as_str())
                .fetch_optional(writing.connection())
                .await?;
        let (holder, lease_until) = found.ok_or(StoreError::Unknown)?;
        let runs = lease_until.is_some_and(|until| until > Timestamp::now().as_micros());
        if runs && holder != Some(owner.id) {
            return Ok(None);
        }
        let fence = next_number(writing.connection()).await?;
        sqlx::query(include_str!("sql/claim.sql"))
            .bind(name.as_str())
            .bind(number(fence))
            .bind(owner.id)
            .bind(cut(&owner.node, NODE_BYTES_MAX))
            .bind(until(lease))
            .execute(writing.connection())
            .await?;
        writing.commit().await?;
        Ok(Some(Fence(fence)))
    }

    pub(super) async fn renew_now(&self, held: &Held, lease: Duration) -> Result<(), Failure> {
        let mut connection = self.ownership.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let renewed = sqlx::query(include_str!("sql/renew.sql"))
            .bind(held.name.as_str())
            .bind(number(held.fence.0))
            .bind(until(lease))
            .execute(writing.connection())
            .await?;
        if renewed.rows_affected() == 0 {
            return Err(StoreError::Fenced.into());
        }
        writing.commit().await
    }

    pub(super) async fn release_now(&self, held: &Held) -> Result<(), Failure> {
        let mut connection = self.ownership.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        sqlx::query(include_str!("sql/release.sql"))
            .bind(held.name.as_str())
            .bind(number(held.fence.0))
            .execute(writing.connection())
            .await?;
        writing.commit().await
    }

    pub(super) async fn wish_now(&self, name: &ProjectionName, wish: Wish) -> Result<(), Failure> {
        let mut connection = self.ownership.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let wished = sqlx::query(include_str!("sql/set_wish.sql"))
            .bind(name.as_str())
            .bind(wish_name(wish))
            .execute(writing.connection())
            .await?;
        if wished.rows_affected() == 0 {
            return Err(StoreError::Unknown.into());
        }
        writing.commit().await
    }

    pub(super) async fn forget_wish(&self, held: &Held, wish: Wish) -> Result<(), Failure> {
        let mut connection = self.ownership.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        find_held(writing.connection(), held).await?;
        sqlx::query(include_str!("sql/clear_wish.sql"))
            .bind(held.name.as_str())
            .bind(wish_name(wish))
            .execute(writing.connection())
            .await?;
        writing.commit().await
    }

    pub(super) async fn stop(
        &self,
        held: &Held,
        generation: Generation,
        stopped: Option<Stopped>,
    ) -> Result<(), Failure> {
        let mut connection = self.ownership.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        find_held(writing.connection(), held).await?.demand(generation)?;
        let position = stopped.as_ref().and_then(|stopped| stopped.position);
        sqlx::query(include_str!("sql/set_stopped.sql"))
            .bind(number(generation.get()))
            .bind(position.map(|position| number(position.get())))
            .bind(stopped.map(|stopped| cut(&stopped.reason, REASON_BYTES_MAX)))
            .execute(writing.connection())
            .await?;
        writing.commit().await
    }
}
