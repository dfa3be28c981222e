//! Leases, shares and replays. Mostly a look: the write lock is taken only where leases are due or
//! there are replays to be told.

use std::collections::HashMap;

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Failure, SqliteConsumers, claim::tell_replays, hex, json, read_hex};
use crate::{
    Fence, Holding, Kept, MemberId, Timestamp,
    consumer::{
        kept::{self, Found},
        shares::RENEWED_BELOW,
        text,
    },
};

/// A consumer's members, each with the end of its lease.
type Leases = Vec<(MemberId, i64)>;

impl SqliteConsumers {
    pub(super) async fn keep_now(
        &self,
        held: Vec<Holding>,
        again: bool,
    ) -> Result<Vec<Kept>, Failure> {
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let now = Timestamp::now();
        let mut connection = self.progress.acquire().await?;
        let mut looked = look(&mut connection, &held, again).await?;
        let due = self.settle_leases(&mut looked, &held, now);
        let found: HashMap<_, _> =
            looked.into_iter().map(|(name, (found, _))| (name, found)).collect();
        let (mut kept, told) = kept::judge(&held, &found)?;
        if due.is_empty() && told.is_empty() {
            return Ok(kept);
        }
        let mut writing = self.write(&mut connection).await?;
        sqlx::query(include_str!("../sql/renew_leases.sql"))
            .bind(json(&due))
            .bind(self.lease_until(now))
            .execute(writing.connection())
            .await?;
        let mut replays = Vec::new();
        for (place, told) in told.iter().enumerate() {
            let kept::Told { name, partition, fence, .. } = *told;
            let these = tell_replays(writing.connection(), name, partition, fence, again).await?;
            replays.extend(these.into_iter().map(|(at, attempts)| (place, at, attempts)));
        }
        writing.commit().await?;
        kept::add_replays(&mut kept, &told, replays);
        Ok(kept)
    }

    /// Whose lease runs, if those who hold renew theirs now; returns the leases that are due.
    fn settle_leases(
        &self,
        looked: &mut HashMap<String, (Found, Leases)>,
        held: &[Holding],
        now: Timestamp,
    ) -> Vec<(String, String)> {
        let left = self.limits.consumer_lease.mul_f64(RENEWED_BELOW);
        let due_before = now.as_micros() + i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
        let mut due = Vec::new();
        for Holding { name, member, .. } in held {
            let Some((_, leases)) = looked.get_mut(name.as_str()) else { continue };
            // The members come in order of their ids.
            let Ok(place) = leases.binary_search_by_key(member, |(id, _)| *id) else { continue };
            let (_, lease_until) = &mut leases[place];
            if *lease_until < due_before {
                due.push((name.as_str().to_owned(), hex(*member)));
                *lease_until = i64::MAX;
            }
        }
        for (found, leases) in looked.values_mut() {
            let running = leases.iter().filter(|(_, until)| *until > now.as_micros());
            found.members = running.map(|(member, _)| *member).collect();
        }
        due
    }
}

async fn look(
    connection: &mut SqliteConnection,
    held: &[Holding],
    again: bool,
) -> Result<HashMap<String, (Found, Leases)>, Failure> {
    let names: Vec<&str> = held.iter().map(|holding| holding.name.as_str()).collect();
    let rows = sqlx::query(include_str!("../sql/look_at_consumers.sql"))
        .bind(json(&names))
        .bind(again)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, decode(row)?))).collect()
}

fn decode(row: &SqliteRow) -> Result<(Found, Leases), Failure> {
    let unreadable = |_| text::Unreadable::new("a consumer's members");
    let members: Vec<(&str, i64)> = serde_json::from_str(row.try_get(2)?).map_err(unreadable)?;
    let partitions: Vec<(&str, u64)> = serde_json::from_str(row.try_get(3)?).map_err(unreadable)?;
    let mut found = Found {
        sharing: text::read_sharing(row.try_get(1)?)?,
        members: Vec::new(),
        owners: Vec::with_capacity(partitions.len()),
        fences: Vec::with_capacity(partitions.len()),
        replays: row.try_get(4)?,
    };
    for (owner, fence) in partitions {
        found.owners.push(read_hex(owner)?);
        found.fences.push(Fence::new(fence));
    }
    let mut leases = Vec::with_capacity(members.len());
    for (member, lease_until) in members {
        let member = read_hex(member)?;
        leases.push((member.ok_or_else(|| text::Unreadable::new("a member's id"))?, lease_until));
    }
    Ok((found, leases))
}
