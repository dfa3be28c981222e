//! Claims: one transaction each, under the write lock.

use sqlx::{Row as _, SqliteConnection};
use uuid::Uuid;

use super::{Failure, SqliteConsumers, json};
use crate::{
    Claim, Claimed, ClaimedPartition, ConsumerError, ConsumerName, Fence, GlobalPosition, MemberId,
    NODE_BYTES_MAX, Partition, PartitionSet, REPLAYS_TOLD_MAX, Sharing, Timestamp,
    consumer::{
        progress::tidy,
        shares::{self, Owners, Shares},
        text,
    },
    sqlite::append::{number, unsigned},
};

/// A partition, as its row has it.
struct Row {
    partition: Partition,
    fence: Fence,
    owner: Option<MemberId>,
    checkpoint: GlobalPosition,
    unclean: bool,
    attempts: Vec<(GlobalPosition, u32)>,
}

impl SqliteConsumers {
    pub(super) async fn claim_now(&self, claim: &Claim) -> Result<Claimed, Failure> {
        let mut connection = self.claims.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let claimed = self.claim_within(writing.connection(), claim).await?;
        writing.commit().await?;
        Ok(claimed)
    }

    async fn claim_within(
        &self,
        connection: &mut SqliteConnection,
        claim: &Claim,
    ) -> Result<Claimed, Failure> {
        let now = Timestamp::now();
        let existed = is_there(connection, claim).await?;
        if !existed {
            self.create(connection, claim, now).await?;
        }
        self.join(connection, claim, now).await?;
        let rows = partitions(connection, &claim.name).await?;
        let taken = match claim.sharing {
            Sharing::Exclusive => shares::partitions_of(claim.sharing),
            Sharing::Group => {
                let members = members(connection, &claim.name, now).await?;
                let max = self.limits.consumer_members_max;
                if members.len() > max {
                    return Err(ConsumerError::TooManyMembers { max }.into());
                }
                let owners: Vec<_> = rows.iter().map(|row| row.owner).collect();
                let owners = Owners::try_from(owners)
                    .map_err(|_| text::Unreadable::new("a group's partitions"))?;
                Shares { members: &members, owners: &owners }.claimed_by(claim.member)
            }
        };
        take(connection, claim, taken).await?;
        let mut partitions = Vec::with_capacity(taken.len());
        for row in rows.into_iter().filter(|row| taken.contains(row.partition)) {
            let fence = Fence::new(row.fence.get() + 1);
            partitions.push(ClaimedPartition {
                partition: row.partition,
                fence,
                checkpoint: row.checkpoint,
                unclean: row.unclean,
                attempts: row.attempts,
                replays: tell_replays(connection, &claim.name, row.partition, fence, false).await?,
            });
        }
        Ok(Claimed { existed, partitions })
    }

    async fn create(
        &self,
        connection: &mut SqliteConnection,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let (target, target_name) = text::target(&claim.target);
        let max = self.limits.consumers_max;
        let created = sqlx::query(include_str!("../sql/insert_consumer.sql"))
            .bind(claim.name.as_str())
            .bind(text::sharing(claim.sharing))
            .bind(target)
            .bind(target_name)
            .bind(claim.filter.as_deref())
            .bind(now.as_micros())
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .execute(&mut *connection)
            .await?;
        if created.rows_affected() == 0 {
            return Err(ConsumerError::TooManyConsumers { max }.into());
        }
        sqlx::query(include_str!("../sql/insert_partitions.sql"))
            .bind(claim.name.as_str())
            .bind(numbers(shares::partitions_of(claim.sharing)))
            .bind(now.as_micros())
            .bind(number(claim.after.get()))
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Enters the member, and removes those that are gone.
    async fn join(
        &self,
        connection: &mut SqliteConnection,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<(), Failure> {
        sqlx::query(include_str!("../sql/join_consumer.sql"))
            .bind(claim.name.as_str())
            .bind(claim.member.as_uuid())
            .bind(tidy(claim.node.clone(), NODE_BYTES_MAX))
            .bind(self.lease_until(now))
            .execute(&mut *connection)
            .await?;
        let ended_by = (claim.sharing == Sharing::Group).then_some(now.as_micros());
        sqlx::query(include_str!("../sql/remove_members.sql"))
            .bind(claim.name.as_str())
            .bind(claim.member.as_uuid())
            .bind(ended_by)
            .execute(&mut *connection)
            .await?;
        free_partitions(connection, &claim.name).await
    }

    /// When a lease that is renewed now runs out.
    pub(super) fn lease_until(&self, now: Timestamp) -> i64 {
        let lease = i64::try_from(self.limits.consumer_lease.as_micros()).unwrap_or(i64::MAX);
        now.as_micros().saturating_add(lease)
    }

    pub(super) async fn leave_now(
        &self,
        name: &ConsumerName,
        member: MemberId,
    ) -> Result<(), Failure> {
        let mut connection = self.claims.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        sqlx::query(include_str!("../sql/remove_member.sql"))
            .bind(name.as_str())
            .bind(member.as_uuid())
            .execute(writing.connection())
            .await?;
        free_partitions(writing.connection(), name).await?;
        writing.commit().await
    }
}

/// Whether the consumer is there, and the one that is claimed.
async fn is_there(connection: &mut SqliteConnection, claim: &Claim) -> Result<bool, Failure> {
    let row = sqlx::query(include_str!("../sql/find_consumer.sql"))
        .bind(claim.name.as_str())
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(false) };
    let sharing = text::read_sharing(row.try_get(0)?)?;
    let target = text::read_target(row.try_get(1)?, row.try_get(2)?)?;
    shares::check_same(claim, sharing, &target, row.try_get(3)?)?;
    Ok(true)
}

async fn free_partitions(
    connection: &mut SqliteConnection,
    name: &ConsumerName,
) -> Result<(), Failure> {
    sqlx::query(include_str!("../sql/free_partitions.sql"))
        .bind(name.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

async fn members(
    connection: &mut SqliteConnection,
    name: &ConsumerName,
    now: Timestamp,
) -> Result<Vec<MemberId>, Failure> {
    let members: Vec<Uuid> = sqlx::query_scalar(include_str!("../sql/load_members.sql"))
        .bind(name.as_str())
        .bind(now.as_micros())
        .fetch_all(connection)
        .await?;
    Ok(members.into_iter().map(MemberId::from).collect())
}

async fn partitions(
    connection: &mut SqliteConnection,
    name: &ConsumerName,
) -> Result<Vec<Row>, Failure> {
    let rows = sqlx::query(include_str!("../sql/load_partitions.sql"))
        .bind(name.as_str())
        .fetch_all(connection)
        .await?;
    let mut partitions = Vec::with_capacity(rows.len());
    for row in rows {
        let partition = u8::try_from(row.try_get::<i64, _>(0)?).ok().and_then(Partition::new);
        partitions.push(Row {
            partition: partition.ok_or_else(|| text::Unreadable::new("a partition's number"))?,
            fence: Fence::new(unsigned(row.try_get(1)?)),
            owner: row.try_get::<Option<Uuid>, _>(2)?.map(MemberId::from),
            checkpoint: GlobalPosition::new(unsigned(row.try_get(3)?)),
            unclean: row.try_get(4)?,
            attempts: text::read_attempts(row.try_get(5)?)?,
        });
    }
    Ok(partitions)
}

async fn take(
    connection: &mut SqliteConnection,
    claim: &Claim,
    partitions: PartitionSet,
) -> Result<(), Failure> {
    sqlx::query(include_str!("../sql/take_partitions.sql"))
        .bind(claim.name.as_str())
        .bind(claim.member.as_uuid())
        .bind(numbers(partitions))
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes and returns the replays that a claim is to be told, in order of positions.
pub(super) async fn tell_replays(
    connection: &mut SqliteConnection,
    name: &ConsumerName,
    partition: Partition,
    fence: Fence,
    again: bool,
) -> Result<Vec<(GlobalPosition, u32)>, Failure> {
    let rows = sqlx::query(include_str!("../sql/find_replays.sql"))
        .bind(name.as_str())
        .bind(i64::from(partition.get()))
        .bind(number(fence.get()))
        .bind(i64::try_from(REPLAYS_TOLD_MAX).unwrap_or(i64::MAX))
        .bind(again)
        .fetch_all(&mut *connection)
        .await?;
    let mut told = Vec::with_capacity(rows.len());
    for row in rows {
        let position = GlobalPosition::new(unsigned(row.try_get(0)?));
        told.push((position, text::read_count(row.try_get(1)?)));
    }
    if !told.is_empty() {
        let positions: Vec<_> = told.iter().map(|(position, _)| *position).collect();
        sqlx::query(include_str!("../sql/tell_replays.sql"))
            .bind(name.as_str())
            .bind(number(fence.get()))
            .bind(json(&positions))
            .execute(connection)
            .await?;
    }
    Ok(told)
}

fn numbers(partitions: PartitionSet) -> String {
    json(&partitions.iter().map(Partition::get).collect::<Vec<_>>())
}
