//! What people ask: lists of consumers and parked events, replays, drops, deletions.

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Failure, SqliteConsumers, json, read_hex};
use crate::{
    CONSUMERS_PAGE_MAX, ConsumerError, ConsumerInfo, ConsumerName, EventType, GlobalPosition,
    Holder, MemberId, PARKED_PAGE_MAX, ParkedInfo, ParkedPage, PartitionSet, Positions, StreamName,
    Timestamp,
    consumer::text,
    sqlite::append::{number, unsigned},
};

/// What is to become of parked events.
pub(super) enum Change {
    Replay,
    Drop,
}

impl SqliteConsumers {
    pub(super) async fn list(
        &self,
        after: Option<&ConsumerName>,
        limit: usize,
    ) -> Result<Vec<ConsumerInfo>, Failure> {
        let limit = limit.clamp(1, CONSUMERS_PAGE_MAX);
        let rows = sqlx::query(include_str!("../sql/list_consumers.sql"))
            .bind(after.map(ConsumerName::as_str))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(Timestamp::now().as_micros())
            .fetch_all(&self.reads)
            .await?;
        rows.iter().map(info).collect()
    }

    pub(super) async fn read(&self, name: ConsumerName) -> Result<ConsumerInfo, Failure> {
        let row = sqlx::query(include_str!("../sql/read_consumer.sql"))
            .bind(name.as_str())
            .bind(Timestamp::now().as_micros())
            .fetch_optional(&self.reads)
            .await?;
        row.as_ref().map(info).unwrap_or(Err(ConsumerError::Unknown { name }.into()))
    }

    pub(super) async fn delete(&self, name: ConsumerName) -> Result<(), Failure> {
        let mut connection = self.claims.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let deleted = sqlx::query(include_str!("../sql/delete_consumer.sql"))
            .bind(name.as_str())
            .execute(writing.connection())
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(ConsumerError::Unknown { name }.into());
        }
        for sql in [
            include_str!("../sql/delete_consumer_members.sql"),
            include_str!("../sql/delete_consumer_partitions.sql"),
            include_str!("../sql/delete_consumer_parked.sql"),
        ] {
            sqlx::query(sql).bind(name.as_str()).execute(writing.connection()).await?;
        }
        writing.commit().await
    }

    pub(super) async fn list_parked(
        &self,
        name: ConsumerName,
        after: GlobalPosition,
        limit: usize,
    ) -> Result<ParkedPage, Failure> {
        let limit = limit.clamp(1, PARKED_PAGE_MAX);
        let mut connection = self.reads.acquire().await?;
        if !exists(&mut connection, &name).await? {
            return Err(ConsumerError::Unknown { name }.into());
        }
        let mut rows = sqlx::query(include_str!("../sql/list_parked.sql"))
            .bind(name.as_str())
            .bind(number(after.get()))
            // One more than asked for tells whether there are more.
            .bind(i64::try_from(limit + 1).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let parked = rows.iter().map(parked_info).collect::<Result<_, _>>()?;
        Ok(ParkedPage { parked, more })
    }

    pub(super) async fn change(
        &self,
        name: ConsumerName,
        positions: Positions,
        change: Change,
    ) -> Result<u64, Failure> {
        let listed = positions.into_listed().map(|listed| json(&listed));
        let mut connection = self.claims.acquire().await?;
        let mut writing = self.write(&mut connection).await?;
        let changed = changed(writing.connection(), &name, listed.as_deref(), change).await?;
        writing.commit().await?;
        Ok(changed)
    }
}

async fn changed(
    connection: &mut SqliteConnection,
    name: &ConsumerName,
    listed: Option<&str>,
    change: Change,
) -> Result<u64, Failure> {
    if !exists(connection, name).await? {
        return Err(ConsumerError::Unknown { name: name.clone() }.into());
    }
    if let Some(listed) = listed {
        let missing: Vec<i64> = sqlx::query_scalar(include_str!("../sql/find_unparked.sql"))
            .bind(name.as_str())
            .bind(listed)
            .fetch_all(&mut *connection)
            .await?;
        if !missing.is_empty() {
            let position = |number| GlobalPosition::new(unsigned(number));
            let positions = missing.into_iter().map(position).collect();
            return Err(ConsumerError::NotParked { positions }.into());
        }
    }
    let sql = match change {
        Change::Replay => include_str!("../sql/replay_parked.sql"),
        Change::Drop => include_str!("../sql/drop_parked.sql"),
    };
    let query = sqlx::query(sql).bind(name.as_str()).bind(listed);
    let changed = query.execute(&mut *connection).await?.rows_affected();
    if let Change::Drop = change {
        sqlx::query(include_str!("../sql/count_dropped.sql"))
            .bind(name.as_str())
            .bind(number(changed))
            .execute(connection)
            .await?;
    }
    Ok(changed)
}

async fn exists(connection: &mut SqliteConnection, name: &ConsumerName) -> Result<bool, Failure> {
    let row = sqlx::query(include_str!("../sql/find_consumer.sql"))
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

fn info(row: &SqliteRow) -> Result<ConsumerInfo, Failure> {
    let unreadable = |_| text::Unreadable::new("a consumer's members");
    let members: Vec<(&str, String)> = serde_json::from_str(row.try_get(7)?).map_err(unreadable)?;
    let owners: Vec<&str> = serde_json::from_str(row.try_get(8)?).map_err(unreadable)?;
    let owners: Vec<Option<MemberId>> =
        owners.into_iter().map(read_hex).collect::<Result<_, _>>()?;
    let mut holders = Vec::with_capacity(members.len());
    for (member, node) in members {
        let member = read_hex(member)?.ok_or_else(|| text::Unreadable::new("a member's id"))?;
        let all = PartitionSet::ALL.iter().zip(&owners);
        let partitions = all.filter(|(_, owner)| **owner == Some(member)).map(|(at, _)| at);
        holders.push(Holder { member, node, partitions: partitions.collect() });
    }
    let checkpoint = row.try_get::<Option<i64>, _>(9)?.unwrap_or_default();
    Ok(ConsumerInfo {
        name: text::read_name(row.try_get(0)?)?,
        sharing: text::read_sharing(row.try_get(1)?)?,
        target: text::read_target(row.try_get(2)?, row.try_get(3)?)?,
        filter: row.try_get(4)?,
        created_at: Timestamp::from_micros(row.try_get(5)?),
        holders,
        checkpoint: GlobalPosition::new(unsigned(checkpoint)),
        parked: unsigned(row.try_get(6)?),
    })
}

fn parked_info(row: &SqliteRow) -> Result<ParkedInfo, Failure> {
    let stream: Option<&str> = row.try_get(1)?;
    let event_type: Option<&str> = row.try_get(2)?;
    let unreadable = |_| text::Unreadable::new("an event's name");
    Ok(ParkedInfo {
        position: GlobalPosition::new(unsigned(row.try_get(0)?)),
        stream: stream.map(StreamName::recorded).transpose().map_err(unreadable)?,
        event_type: event_type.map(EventType::recorded).transpose().map_err(unreadable)?,
        attempts: text::read_count(row.try_get(3)?),
        reason: row.try_get(4)?,
        parked_at: Timestamp::from_micros(row.try_get(5)?),
        replaying: row.try_get(6)?,
    })
}
