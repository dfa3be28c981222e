//! What people ask: lists of consumers and parked events, replays, drops, deletions.

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{Failure, Shared, acquire, number, position};
use crate::{
    CONSUMERS_PAGE_MAX, ConsumerError, ConsumerInfo, ConsumerName, EventType, GlobalPosition,
    Holder, MemberId, PARKED_PAGE_MAX, ParkedInfo, ParkedPage, Positions, StreamName,
    consumer::text, postgres::wire::Moment,
};

const LIST_CONSUMERS: &str = include_str!("../sql/list_consumers.sql");
const READ_CONSUMER: &str = include_str!("../sql/read_consumer.sql");
const DELETE_CONSUMER: &str = include_str!("../sql/delete_consumer.sql");
const FIND_CONSUMER: &str = include_str!("../sql/find_consumer.sql");
const LIST_PARKED: &str = include_str!("../sql/list_parked.sql");
const LOCK_CONSUMER: &str = include_str!("../sql/lock_consumer.sql");
const FIND_UNPARKED: &str = include_str!("../sql/find_unparked.sql");
const REPLAY_PARKED: &str = include_str!("../sql/replay_parked.sql");
const DROP_PARKED: &str = include_str!("../sql/drop_parked.sql");

pub(super) async fn list(
    shared: &Shared,
    after: Option<&ConsumerName>,
    limit: usize,
) -> Result<Vec<ConsumerInfo>, Failure> {
    let mut connection = acquire(&shared.claims).await?;
    let limit = limit.clamp(1, CONSUMERS_PAGE_MAX);
    let query = sqlx::query(LIST_CONSUMERS)
        .bind(after.map(ConsumerName::as_str))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = shared.server.within(query.fetch_all(&mut *connection)).await?;
    rows.iter().map(info).collect()
}

pub(super) async fn read(shared: &Shared, name: ConsumerName) -> Result<ConsumerInfo, Failure> {
    let mut connection = acquire(&shared.claims).await?;
    let query = sqlx::query(READ_CONSUMER).bind(name.as_str());
    let row = shared.server.within(query.fetch_optional(&mut *connection)).await?;
    row.as_ref().map(info).unwrap_or(Err(ConsumerError::Unknown { name }.into()))
}

fn info(row: &PgRow) -> Result<ConsumerInfo, Failure> {
    let Moment(created_at) = row.try_get_unchecked("created_at")?;
    let members: Vec<Uuid> = row.try_get("members")?;
    let nodes: Vec<String> = row.try_get("nodes")?;
    let owners: Vec<Option<Uuid>> = row.try_get("owners")?;
    let partitions = |member| {
        let all = crate::PartitionSet::ALL.iter().zip(&owners);
        all.filter(|(_, owner)| **owner == Some(member)).map(|(partition, _)| partition).collect()
    };
    let holders = members.into_iter().zip(nodes).map(|(member, node)| Holder {
        member: MemberId::from(member),
        node,
        partitions: partitions(member),
    });
    let parked: i64 = row.try_get("parked")?;
    Ok(ConsumerInfo {
        name: text::read_name(row.try_get("name")?)?,
        sharing: text::read_sharing(row.try_get("sharing")?)?,
        target: text::read_target(row.try_get("target")?, row.try_get("target_name")?)?,
        filter: row.try_get("filter")?,
        created_at,
        holders: holders.collect(),
        checkpoint: position(row.try_get::<Option<i64>, _>("checkpoint")?.unwrap_or_default()),
        parked: u64::try_from(parked).unwrap_or_default(),
    })
}

pub(super) async fn delete(shared: &Shared, name: ConsumerName) -> Result<(), Failure> {
    let mut connection = acquire(&shared.claims).await?;
    let query = sqlx::query(DELETE_CONSUMER).bind(name.as_str());
    let deleted = shared.server.within(query.execute(&mut *connection)).await?;
    if deleted.rows_affected() == 0 {
        return Err(ConsumerError::Unknown { name }.into());
    }
    Ok(())
}

pub(super) async fn parked(
    shared: &Shared,
    name: ConsumerName,
    after: GlobalPosition,
    limit: usize,
) -> Result<ParkedPage, Failure> {
    let mut connection = acquire(&shared.claims).await?;
    let limit = limit.clamp(1, PARKED_PAGE_MAX);
    let query = sqlx::query(LIST_PARKED)
        .bind(name.as_str())
        .bind(number(after.get()))
        // One more than asked for tells whether there are more.
        .bind(i64::try_from(limit + 1).unwrap_or(i64::MAX));
    let mut rows = shared.server.within(query.fetch_all(&mut *connection)).await?;
    if rows.is_empty() {
        let query = sqlx::query_scalar(FIND_CONSUMER).bind(name.as_str());
        let exists: bool = shared.server.within(query.fetch_one(&mut *connection)).await?;
        if !exists {
            return Err(ConsumerError::Unknown { name }.into());
        }
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    let parked = rows.iter().map(parked_info).collect::<Result<_, _>>()?;
    Ok(ParkedPage { parked, more })
}

fn parked_info(row: &PgRow) -> Result<ParkedInfo, Failure> {
    let Moment(parked_at) = row.try_get_unchecked(5)?;
    let stream: Option<&str> = row.try_get(1)?;
    let event_type: Option<&str> = row.try_get(2)?;
    let unreadable = |_| text::Unreadable::new("an event's name");
    Ok(ParkedInfo {
        position: position(row.try_get(0)?),
        stream: stream.map(StreamName::recorded).transpose().map_err(unreadable)?,
        event_type: event_type.map(EventType::recorded).transpose().map_err(unreadable)?,
        attempts: text::read_count(row.try_get(3)?),
        reason: row.try_get(4)?,
        parked_at,
        replaying: row.try_get(6)?,
    })
}

/// What is to become of parked events.
pub(super) enum Change {
    Replay,
    Drop,
}

pub(super) async fn change(
    shared: &Shared,
    name: ConsumerName,
    positions: Positions,
    change: Change,
) -> Result<u64, Failure> {
    let listed = positions.into_listed();
    let listed: Option<Vec<i64>> =
        listed.map(|listed| listed.iter().map(|position| number(position.get())).collect());
    let mut connection = acquire(&shared.claims).await?;
    let work = async {
        let mut transaction = connection.begin().await?;
        match changed(&mut transaction, &name, listed.as_deref(), change).await {
            Ok(count) => {
                transaction.commit().await?;
                Ok(Ok(count))
            }
            Err(failure) => Ok(Err(failure)),
        }
    };
    shared.server.within(work).await?
}

async fn changed(
    connection: &mut PgConnection,
    name: &ConsumerName,
    listed: Option<&[i64]>,
    change: Change,
) -> Result<u64, Failure> {
    let query = sqlx::query(LOCK_CONSUMER).bind(name.as_str());
    if query.fetch_optional(&mut *connection).await?.is_none() {
        return Err(ConsumerError::Unknown { name: name.clone() }.into());
    }
    if let Some(listed) = listed {
        let query = sqlx::query_scalar(FIND_UNPARKED).bind(name.as_str()).bind(listed);
        let missing: Vec<i64> = query.fetch_all(&mut *connection).await?;
        if !missing.is_empty() {
            let positions = missing.into_iter().map(position).collect();
            return Err(ConsumerError::NotParked { positions }.into());
        }
    }
    match change {
        Change::Replay => {
            let query = sqlx::query(REPLAY_PARKED).bind(name.as_str()).bind(listed);
            Ok(query.execute(&mut *connection).await?.rows_affected())
        }
        Change::Drop => {
            let query = sqlx::query_scalar(DROP_PARKED).bind(name.as_str()).bind(listed);
            let dropped: i64 = query.fetch_one(&mut *connection).await?;
            Ok(u64::try_from(dropped).unwrap_or_default())
        }
    }
}
