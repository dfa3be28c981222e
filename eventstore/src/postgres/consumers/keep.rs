//! Leases, shares and replays: one round trip, and a second one where there are replays to tell.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    Failure, Shared, acquire,
    claim::{fence, owners},
    number, position,
};
use crate::{
    ConsumerName, Fence, GlobalPosition, Holding, Kept, MemberId, PARTITIONS, Partition,
    REPLAYS_TOLD_MAX, ReadError, Sharing,
    consumer::{
        shares::{Owners, Shares},
        text,
    },
};

const KEEP_CONSUMERS: &str = include_str!("../sql/keep_consumers.sql");
const TELL_REPLAYS: &str = include_str!("../sql/tell_replays.sql");

/// A lease is renewed when less than this part of it is left, and not at every occasion: a row
/// that is written every second for each of ten thousand consumers costs more than it tells.
const RENEWED_BELOW: f64 = 0.6;

/// Knows whether replays have to be told again: what an answer that got lost had told, nobody
/// knows of.
pub(super) struct Doubt {
    shared: Arc<Shared>,
    /// Whether an earlier answer was lost.
    pub(super) again: bool,
    answered: bool,
}

impl Doubt {
    pub(super) fn begin(shared: Arc<Shared>) -> Self {
        let again = shared.replays_in_doubt.swap(false, Ordering::SeqCst);
        Self { shared, again, answered: false }
    }

    pub(super) fn answered<T>(mut self, answer: Result<T, ReadError>) -> Result<T, ReadError> {
        self.answered = answer.is_ok();
        answer
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.replays_in_doubt.store(true, Ordering::SeqCst);
        }
    }
}

/// A consumer, as a keep finds it.
struct Found {
    sharing: Sharing,
    members: Vec<MemberId>,
    owners: Vec<Option<Uuid>>,
    fences: Vec<i64>,
    replays: bool,
}

impl Found {
    fn new(row: &PgRow) -> Result<Self, Failure> {
        let members: Vec<Uuid> = row.try_get(2)?;
        Ok(Self {
            sharing: text::read_sharing(row.try_get(1)?)?,
            members: members.into_iter().map(MemberId::from).collect(),
            owners: row.try_get(3)?,
            fences: row.try_get(4)?,
            replays: row.try_get(5)?,
        })
    }

    /// Whether everything of the holding is still the member's.
    fn is_held(&self, holding: &Holding) -> bool {
        let member = holding.member.as_uuid();
        self.members.binary_search(&holding.member).is_ok()
            && holding.partitions.iter().all(|(partition, held)| {
                let place = usize::from(partition.get());
                let owner = self.owners.get(place).copied().flatten();
                self.fences.get(place).copied().map(fence) == Some(*held)
                    && owner.is_none_or(|owner| owner == member)
            })
    }
}

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
    let mut kept = Vec::with_capacity(held.len());
    let mut groups: HashMap<&ConsumerName, Owners> = HashMap::new();
    for holding in &held {
        let found = found.get(holding.name.as_str()).filter(|found| found.is_held(holding));
        let rebalance = match found {
            Some(group) if group.sharing == Sharing::Group => {
                if !groups.contains_key(&holding.name) {
                    groups.insert(&holding.name, owners(group.owners.clone())?);
                }
                let owners = groups.get(&holding.name).unwrap_or(&[None; PARTITIONS]);
                Shares { members: &group.members, owners }.are_to_change_for(holding.member)
            }
            _ => false,
        };
        kept.push(Kept { lost: found.is_none(), rebalance, replays: Vec::new() });
    }
    let mut told = Vec::new();
    let mut of = Vec::new();
    for (index, (holding, kept)) in held.iter().zip(&kept).enumerate() {
        if !kept.lost && found.get(holding.name.as_str()).is_some_and(|found| found.replays) {
            for (partition, fence) in &holding.partitions {
                told.push((&holding.name, *partition, *fence));
                of.push((index, *partition));
            }
        }
    }
    if told.is_empty() {
        return Ok(kept);
    }
    let telling = tell_replays(&mut connection, &told, again);
    for (place, position, attempts) in shared.server.within(telling).await? {
        if let Some((index, partition)) = of.get(place).copied() {
            kept[index].replays.push((partition, position, attempts));
        }
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
    rows.iter().map(|row| Ok((row.try_get(0)?, Found::new(row)?))).collect()
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
