//! Claims: one transaction each, under the lock on the consumer's row.

use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use super::{Failure, Shared, acquire, keep, number, position};
use crate::{
    Claim, Claimed, ClaimedPartition, ConsumerError, ConsumerName, Fence, MemberId, NODE_BYTES_MAX,
    Partition, PartitionSet, Sharing,
    consumer::{
        progress::tidy,
        shares::{self, Owners, Shares},
        text,
    },
};

const LOCK_CONSUMER: &str = include_str!("../sql/lock_consumer.sql");
const LOCK_CREATION: &str = include_str!("../sql/lock_creation.sql");
const CREATE_CONSUMER: &str = include_str!("../sql/create_consumer.sql");
const JOIN_CONSUMER: &str = include_str!("../sql/join_consumer.sql");
const REMOVE_MEMBERS: &str = include_str!("../sql/remove_members.sql");
const READ_SHARES: &str = include_str!("../sql/read_shares.sql");
const TAKE_PARTITIONS: &str = include_str!("../sql/take_partitions.sql");
const LEAVE_CONSUMER: &str = include_str!("../sql/leave_consumer.sql");

pub(super) async fn claim(shared: &Shared, claim: Claim) -> Result<Claimed, Failure> {
    let mut connection = acquire(&shared.claims).await?;
    let work = async {
        let mut transaction = connection.begin().await?;
        let claimed = in_transaction(&mut transaction, shared, &claim).await;
        match claimed {
            Ok(claimed) => {
                transaction.commit().await?;
                Ok(Ok(claimed))
            }
            Err(failure) => Ok(Err(failure)),
        }
    };
    shared.server.within(work).await?
}

async fn in_transaction(
    connection: &mut PgConnection,
    shared: &Shared,
    claim: &Claim,
) -> Result<Claimed, Failure> {
    let existed = match lock(connection, claim).await? {
        Found::Same => true,
        Found::Nothing => !create(connection, shared, claim).await?,
    };
    join(connection, shared, claim).await?;
    let partitions = match claim.sharing {
        Sharing::Exclusive => shares::partitions_of(claim.sharing),
        Sharing::Group => {
            let (members, owners) = shares_of(connection, &claim.name).await?;
            let max = shared.limits.consumer_members_max;
            if members.len() > max {
                return Err(ConsumerError::TooManyMembers { max }.into());
            }
            Shares { members: &members, owners: &owners }.claimed_by(claim.member)
        }
    };
    let partitions = take(connection, claim, partitions).await?;
    Ok(Claimed { existed, partitions })
}

enum Found {
    Same,
    Nothing,
}

/// Locks the consumer, if it is there, and makes sure that it is the one that is claimed.
async fn lock(connection: &mut PgConnection, claim: &Claim) -> Result<Found, Failure> {
    let row = sqlx::query(LOCK_CONSUMER)
        .bind(claim.name.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(Found::Nothing) };
    let sharing = text::read_sharing(row.try_get(0)?)?;
    let target = text::read_target(row.try_get(1)?, row.try_get(2)?)?;
    shares::check_same(claim, sharing, &target, row.try_get(3)?)?;
    Ok(Found::Same)
}

/// Creates the consumer; false where another was first.
async fn create(
    connection: &mut PgConnection,
    shared: &Shared,
    claim: &Claim,
) -> Result<bool, Failure> {
    sqlx::query(LOCK_CREATION).execute(&mut *connection).await?;
    let (target, target_name) = text::target(&claim.target);
    let max = shared.limits.consumers_max;
    let created = sqlx::query(CREATE_CONSUMER)
        .bind(claim.name.as_str())
        .bind(text::sharing(claim.sharing))
        .bind(target)
        .bind(target_name)
        .bind(claim.filter.as_deref())
        .bind(numbers(shares::partitions_of(claim.sharing)))
        .bind(number(claim.after.get()))
        .bind(i64::try_from(max).unwrap_or(i64::MAX))
        .execute(&mut *connection)
        .await?;
    if created.rows_affected() > 0 {
        return Ok(true);
    }
    match lock(connection, claim).await? {
        Found::Same => Ok(false),
        Found::Nothing => Err(ConsumerError::TooManyConsumers { max }.into()),
    }
}

/// Enters the member, before those that are gone: see the order of locks in the migration.
async fn join(
    connection: &mut PgConnection,
    shared: &Shared,
    claim: &Claim,
) -> Result<(), Failure> {
    let others: bool = sqlx::query_scalar(JOIN_CONSUMER)
        .bind(claim.name.as_str())
        .bind(claim.member.as_uuid())
        .bind(tidy(claim.node.clone(), NODE_BYTES_MAX))
        .bind(shared.limits.consumer_lease.as_secs_f64())
        .fetch_one(&mut *connection)
        .await?;
    if !others {
        return Ok(());
    }
    sqlx::query(REMOVE_MEMBERS)
        .bind(claim.name.as_str())
        .bind(claim.member.as_uuid())
        .bind(claim.sharing == Sharing::Exclusive)
        .execute(&mut *connection)
        .await?;
    Ok(())
}

async fn shares_of(
    connection: &mut PgConnection,
    name: &ConsumerName,
) -> Result<(Vec<MemberId>, Owners), Failure> {
    let row = sqlx::query(READ_SHARES).bind(name.as_str()).fetch_one(&mut *connection).await?;
    let members: Vec<Uuid> = row.try_get(0)?;
    let owners: Vec<Option<Uuid>> = row.try_get(1)?;
    let owners: Vec<_> = owners.into_iter().map(|owner| owner.map(MemberId::from)).collect();
    let owners = Owners::try_from(owners).map_err(|_| text::Unreadable::new("a group's shares"))?;
    Ok((members.into_iter().map(MemberId::from).collect(), owners))
}

async fn take(
    connection: &mut PgConnection,
    claim: &Claim,
    partitions: PartitionSet,
) -> Result<Vec<ClaimedPartition>, Failure> {
    let rows = sqlx::query(TAKE_PARTITIONS)
        .bind(claim.name.as_str())
        .bind(claim.member.as_uuid())
        .bind(numbers(partitions))
        .fetch_all(&mut *connection)
        .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    let mut replays = false;
    for row in rows {
        replays |= row.try_get::<bool, _>(5)?;
        claimed.push(ClaimedPartition {
            partition: partition(row.try_get(0)?)?,
            fence: fence(row.try_get(1)?),
            checkpoint: position(row.try_get(2)?),
            unclean: row.try_get(3)?,
            attempts: text::read_attempts(row.try_get(4)?)?,
            replays: Vec::new(),
        });
    }
    if !replays {
        return Ok(claimed);
    }
    let told: Vec<_> =
        claimed.iter().map(|claimed| (&claim.name, claimed.partition, claimed.fence)).collect();
    for (place, position, attempts) in keep::tell_replays(connection, &told, false).await? {
        if let Some(claimed) = claimed.get_mut(place) {
            claimed.replays.push((position, attempts));
        }
    }
    Ok(claimed)
}

pub(super) async fn leave(
    shared: &Shared,
    name: &ConsumerName,
    member: MemberId,
) -> Result<(), Failure> {
    let mut connection = acquire(&shared.claims).await?;
    let work = async {
        let mut transaction = connection.begin().await?;
        sqlx::query(LOCK_CONSUMER).bind(name.as_str()).execute(&mut *transaction).await?;
        sqlx::query(LEAVE_CONSUMER)
            .bind(name.as_str())
            .bind(member.as_uuid())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    };
    Ok(shared.server.within(work).await?)
}

pub(super) fn numbers(partitions: PartitionSet) -> Vec<i16> {
    partitions.iter().map(|partition| i16::from(partition.get())).collect()
}

pub(super) fn partition(number: i16) -> Result<Partition, Failure> {
    let partition = u8::try_from(number).ok().and_then(Partition::new);
    partition.ok_or_else(|| text::Unreadable::new("a partition's number").into())
}

pub(super) fn fence(number: i64) -> Fence {
    Fence::new(u64::try_from(number).unwrap_or_default())
}
