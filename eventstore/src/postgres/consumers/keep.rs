//! Leases, shares and replays: one round trip, and a second one where there are replays to tell.

use std::collections::HashMap;

use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{Failure, Shared, acquire, claim::fence, number, position};
use crate::{
    ConsumerName, Fence, GlobalPosition, Holding, Kept, MemberId, Partition, REPLAYS_TOLD_MAX,
    consumer::{
        kept::{self, Found},
        shares::RENEWED_BELOW,
        text,
    },
};

const KEEP_CONSUMERS: &str = include_str!("../sql/keep_consumers.sql");
const TELL_REPLAYS: &str = include_str!("../sql/tell_replays.sql");

pub(super) async fn keep(
    shared: &Shared,
    held: Vec<Holding>,
    again: bool,
) -> Result<Vec<Kept>, Failure> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection = acquire(&shared.progress).await?;
    let found = look(&mut connection, shared, &held, again).await?;
    let (mut kept, told) = kept::judge(&held, &found)?;
    if !told.is_empty() {
        let claims: Vec<_> =
            told.iter().map(|told| (told.name, told.partition, told.fence)).collect();
        let telling = tell_replays(&mut connection, &claims, again);
        kept::add_replays(&mut kept, &told, shared.server.within(telling).await?);
    }
    Ok(kept)
}

async fn look(
    connection: &mut PgConnection,
    shared: &Shared,
    held: &[Holding],
    again: bool,
) -> Result<HashMap<String, Found>, Failure> {
    let mut members: Vec<_> =
        held.iter().map(|holding| (holding.name.as_str(), holding.member.as_uuid())).collect();
    members.sort_unstable();
    let (names, members): (Vec<&str>, Vec<Uuid>) = members.into_iter().unzip();
    let lease = shared.limits.consumer_lease.as_secs_f64();
    let query = sqlx::query(KEEP_CONSUMERS)
        .bind(names)
        .bind(members)
        .bind(lease)
        .bind(lease * RENEWED_BELOW)
        .bind(again);
    let rows = shared.server.within(query.fetch_all(connection)).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, decode(row)?))).collect()
}

fn decode(row: &PgRow) -> Result<Found, Failure> {
    let members: Vec<Uuid> = row.try_get(2)?;
    let owners: Vec<Option<Uuid>> = row.try_get(3)?;
    let fences: Vec<i64> = row.try_get(4)?;
    Ok(Found {
        sharing: text::read_sharing(row.try_get(1)?)?,
        members: members.into_iter().map(MemberId::from).collect(),
        owners: owners.into_iter().map(|owner| owner.map(MemberId::from)).collect(),
        fences: fences.into_iter().map(fence).collect(),
        replays: row.try_get(5)?,
    })
}

/// Notes and returns the replays that claims are to be told, each with the place of its claim, in
/// order of positions.
pub(super) async fn tell_replays(
    connection: &mut PgConnection,
    claims: &[(&ConsumerName, Partition, Fence)],
    again: bool,
) -> Result<Vec<(usize, GlobalPosition, u32)>, sqlx::Error> {
    let names: Vec<&str> = claims.iter().map(|(name, _, _)| name.as_str()).collect();
    let partitions: Vec<i16> =
        claims.iter().map(|(_, partition, _)| i16::from(partition.get())).collect();
    let fences: Vec<i64> = claims.iter().map(|(_, _, fence)| number(fence.get())).collect();
    let rows = sqlx::query(TELL_REPLAYS)
        .bind(names)
        .bind(partitions)
        .bind(fences)
        .bind(i64::try_from(REPLAYS_TOLD_MAX).unwrap_or(i64::MAX))
        .bind(again)
        .fetch_all(connection)
        .await?;
    let mut told = Vec::with_capacity(rows.len());
    for row in rows {
        let place = usize::try_from(row.try_get::<i64, _>(0)? - 1).unwrap_or(usize::MAX);
        told.push((place, position(row.try_get(1)?), text::read_count(row.try_get(2)?)));
    }
    told.sort_unstable_by_key(|(place, position, _)| (*place, *position));
    Ok(told)
}
