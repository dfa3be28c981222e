//! Housekeeping: forgets client-made ids and commands that are too old to be sent again, a few at a
//! time.

use std::time::Duration;

use sqlx::Connection;
use tokio::time::{MissedTickBehavior, interval};

use super::{connect::Server, fault::Fault};
use crate::plan::REQUESTS_KEPT_MICROS;

const PRUNE_REQUESTS: &str = include_str!("sql/prune_requests.sql");
const PRUNE_COMMANDS: &str = include_str!("sql/prune_commands.sql");
const RELAX_DURABILITY: &str = include_str!("sql/relax_durability.sql");

/// How often.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// Rows forgotten in one transaction.
const BATCH: i64 = 1000;

/// Prunes now and then, for ever. A database that is away is pruned the next time.
pub(super) async fn keep(server: Server) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match prune(&server).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "old requests and commands forgotten"),
            Err(fault) => {
                tracing::debug!(reason = %fault.reason(), "could not forget old requests");
            }
        }
    }
}

async fn prune(server: &Server) -> Result<u64, Fault> {
    let mut connection = server.connect().await?;
    server.within(sqlx::raw_sql(RELAX_DURABILITY).execute(&mut connection)).await?;
    let age_seconds = REQUESTS_KEPT_MICROS / 1_000_000;
    let mut pruned = 0;
    for statement in [PRUNE_REQUESTS, PRUNE_COMMANDS] {
        loop {
            let query = sqlx::query(statement).bind(age_seconds).bind(BATCH);
            let rows = server.within(query.execute(&mut connection)).await?.rows_affected();
            pruned += rows;
            if rows == 0 {
                break;
            }
        }
    }
    // The server notices either way; saying goodbye is a courtesy.
    let _ = server.within(connection.close()).await;
    Ok(pruned)
}
