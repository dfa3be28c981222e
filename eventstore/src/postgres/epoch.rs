//! Epochs: the lives of the log, and how a new one is noticed.
//!
//! A client remembers a position of one log. When the database was restored, cloned or promoted,
//! what stands at the positions after some point may be something else, so a new epoch begins
//! there. Each connection of the writer compares the server it meets — system identifier and WAL
//! timeline — with the one recorded at the last epoch; no server changes either under a connection
//! that can write.

use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{connect::Server, fault::Fault, wire::Moment};
use crate::{GlobalPosition, LogEpoch, LogHead, Removals};

const READ_EPOCHS: &str = include_str!("sql/read_epochs.sql");
const READ_IDENTITY: &str = include_str!("sql/read_server_identity.sql");
const INSERT_EPOCH: &str = include_str!("sql/insert_epoch.sql");
const LOCK_HEAD: &str = include_str!("sql/lock_head.sql");

/// Which server a log lies on. Unknown where the role may not ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Identity {
    system: Option<i64>,
    timeline: Option<i32>,
}

impl Identity {
    /// Whether both are known to be different servers or histories.
    fn differs_from(self, other: Self) -> bool {
        let differ = |here: Option<i64>, there: Option<i64>| {
            here.zip(there).is_some_and(|(here, there)| here != there)
        };
        differ(self.system, other.system)
            || differ(self.timeline.map(i64::from), other.timeline.map(i64::from))
    }
}

/// The head and the epochs, in one snapshot.
pub(super) async fn read(connection: &mut PgConnection, server: &Server) -> Result<LogHead, Fault> {
    let rows = server.within(sqlx::query(READ_EPOCHS).fetch_all(connection)).await?;
    let mut position = GlobalPosition::START;
    let mut removals = Removals::default();
    let mut epochs = Vec::with_capacity(rows.len());
    for row in &rows {
        position = position_of(row.try_get("head")?);
        removals = Removals {
            batches: u64::try_from(row.try_get::<i64, _>("batches")?).unwrap_or(0),
            through: position_of(row.try_get("removed_through")?),
        };
        epochs.push(decode(row)?);
    }
    if epochs.is_empty() {
        return Err(Fault::Refused("the log has no epoch".into()));
    }
    Ok(LogHead { position, epochs: epochs.into(), removals })
}

/// Begins an epoch if the log has none, or if this is another server than at the last one.
pub(super) async fn observe(connection: &mut PgConnection, server: &Server) -> Result<(), Fault> {
    let identity = identity(connection, server).await?;
    if !is_new(connection, server, identity).await? {
        return Ok(());
    }
    server
        .within(async {
            let mut transaction = connection.begin().await?;
            sqlx::query(LOCK_HEAD).execute(&mut *transaction).await?;
            // Another node may have been first.
            let begun = match is_new(&mut transaction, server, identity).await {
                Ok(true) => Some(insert(&mut transaction, identity).await?),
                Ok(false) => None,
                Err(fault) => return Ok(Err(fault)),
            };
            transaction.commit().await?;
            if let Some(begun) = begun {
                let LogEpoch { epoch, first_position, .. } = begun;
                tracing::warn!(%epoch, %first_position, "a new epoch of the log begins");
            }
            Ok(Ok(()))
        })
        .await?
}

/// Begins an epoch after the present head.
pub(super) async fn begin(
    connection: &mut PgConnection,
    server: &Server,
) -> Result<LogEpoch, Fault> {
    let identity = identity(connection, server).await?;
    server
        .within(async {
            let mut transaction = connection.begin().await?;
            sqlx::query(LOCK_HEAD).execute(&mut *transaction).await?;
            let epoch = insert(&mut transaction, identity).await?;
            transaction.commit().await?;
            Ok(epoch)
        })
        .await
}

async fn insert(
    connection: &mut PgConnection,
    identity: Identity,
) -> Result<LogEpoch, sqlx::Error> {
    let row = sqlx::query(INSERT_EPOCH)
        .bind(Uuid::new_v4())
        .bind(identity.system)
        .bind(identity.timeline)
        .fetch_one(connection)
        .await?;
    decode(&row)
}

async fn is_new(
    connection: &mut PgConnection,
    server: &Server,
    identity: Identity,
) -> Result<bool, Fault> {
    let rows = server.within(sqlx::query(READ_EPOCHS).fetch_all(connection)).await?;
    let Some(last) = rows.last() else { return Ok(true) };
    let recorded = Identity {
        system: last.try_get("system_identifier")?,
        timeline: last.try_get("timeline")?,
    };
    Ok(identity.differs_from(recorded))
}

async fn identity(connection: &mut PgConnection, server: &Server) -> Result<Identity, Fault> {
    match server.within(sqlx::query(READ_IDENTITY).fetch_one(connection)).await {
        Ok(row) if row.try_get("standby")? => {
            Err(Fault::Busy("the server is a standby; it cannot be written to".into()))
        }
        Ok(row) => Ok(Identity {
            system: row.try_get("system_identifier")?,
            timeline: row.try_get("timeline")?,
        }),
        Err(Fault::Refused(reason)) => {
            tracing::warn!(
                %reason,
                "cannot tell this server from another: after a restore, run `tidewire epoch new`"
            );
            Ok(Identity::default())
        }
        Err(fault) => Err(fault),
    }
}

fn decode(row: &PgRow) -> Result<LogEpoch, sqlx::Error> {
    let Moment(began_at) = row.try_get_unchecked("began_at")?;
    Ok(LogEpoch {
        epoch: row.try_get("epoch")?,
        first_position: position_of(row.try_get("first_position")?),
        began_at,
    })
}

/// A position as the database has it, where constraints keep it from being negative.
fn position_of(number: i64) -> GlobalPosition {
    GlobalPosition::new(u64::try_from(number).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn only_what_is_known_on_both_sides_can_differ() {
        let identity = |system, timeline| Identity { system, timeline };
        let here = identity(Some(7), Some(1));
        for (other, differs) in [
            (identity(Some(7), Some(1)), false),
            (identity(Some(8), Some(1)), true),
            (identity(Some(7), Some(2)), true),
            (identity(None, Some(1)), false),
            (identity(None, Some(2)), true),
            (identity(None, None), false),
        ] {
            assert_eq!(here.differs_from(other), differs, "{other:?}");
            assert_eq!(other.differs_from(here), differs, "{other:?}");
        }
    }
}
