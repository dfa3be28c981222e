//! The runner of one projection on one node: waits until nobody owns it, owns it, and waits again.
//!
//! An [`owner`] does what there is to do while its lease holds. A [`lane`] fills one generation
//! from the log: [`reader`] reads ahead, [`batch`] projects, [`commit`] writes. Two lanes run
//! beside each other during a rebuild, and take [`turn`]s where one must not move.

mod batch;
mod commit;
mod config;
mod lane;
mod owner;
mod reader;
mod sql;
mod task;
mod turn;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use self::{
    owner::{Ended, Owning},
    task::Task,
};
use crate::{
    StoreError,
    documents::{Held, Owner, Status, Wish},
    hub::{Counters, Hub},
    lease::{Lease, Lost},
};
pub use config::{Config, OnPoison, Policy};

/// How long letting go of a projection may take: whoever comes next need not wait for it.
const RELEASE_WAIT: Duration = Duration::from_secs(1);

/// Runs until the node stops.
pub(crate) async fn run(hub: Arc<Hub>, owner: Owner, mut stop: watch::Receiver<bool>) {
    let mut failures = 0;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = until_free(&hub) => {}
        }
        match own(&hub, &owner, &mut stop).await {
            Ok(()) => failures = 0,
            Err(error) => {
                tracing::debug!(projection = %hub.name(), %error, "cannot own a projection");
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = sleep(hub.config.retry.delay(failures, chance())) => {}
                }
                failures = failures.saturating_add(1);
            }
        }
    }
}

/// Waits until nobody owns the projection and there is something that this node could do.
async fn until_free(hub: &Hub) {
    let mut known = hub.watch();
    let free =
        |known: &crate::hub::Known| known.status.owner.is_none() && is_useful(hub, &known.status);
    if known.wait_for(free).await.is_err() {
        // The hub is gone, and the node with it.
        std::future::pending::<()>().await;
    }
}

/// Whether a node with this definition has something to do as the owner. A node whose definition
/// has another version than the documents leaves them to one that can go on with them.
fn is_useful(hub: &Hub, status: &Status) -> bool {
    let version = hub.definition.version;
    status.active.version == version
        || status.building.as_ref().is_some_and(|building| building.version == version)
        || rebuilds_by_itself(hub, status)
        || status.wish.is_some_and(|wish| wish != Wish::Resume && wish != Wish::Skip)
}

/// Whether the documents are of an older version, and are to be rebuilt without being asked.
fn rebuilds_by_itself(hub: &Hub, status: &Status) -> bool {
    hub.policy.rebuild_on_new_version && status.active.version < hub.definition.version
}

/// Claims the projection and owns it until that ends.
async fn own(
    hub: &Arc<Hub>,
    owner: &Owner,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), StoreError> {
    let asked_at = Instant::now();
    let claim = hub.documents.claim(hub.name(), owner.clone(), hub.config.lease).await;
    let fence = match claim {
        Ok(Some(fence)) => fence,
        Ok(None) => {
            look(hub).await?;
            return Ok(());
        }
        Err(StoreError::Unknown) => {
            // Somebody forgot it. It is made anew.
            hub.documents.register(hub.name(), hub.definition.version).await?;
            return Err(StoreError::Unknown);
        }
        Err(error) => return Err(error),
    };
    let held = Held { name: hub.name().clone(), fence };
    tracing::info!(projection = %held.name, fence = fence.0, "owns a projection");
    Counters::add(&hub.counters.claims, 1);
    let documents = Arc::clone(&hub.documents);
    let (lease, keeper) = Lease::new(held.clone(), asked_at, Arc::clone(&hub.config), documents);
    let mut keeper = Task::spawn(keeper);
    let ended = tokio::select! {
        lost = keeper.join() => Ended::Lost(lost.unwrap_or(Lost::Late)),
        ended = Owning::new(Arc::clone(hub), lease).run() => ended,
        _ = stop.wait_for(|stop| *stop) => Ended::Stopping,
    };
    drop(keeper);
    hub.set_owned(false);
    tracing::info!(projection = %held.name, fence = fence.0, ?ended, "owns a projection no longer");
    if ended != Ended::Lost(Lost::Fenced)
        && !matches!(timeout(RELEASE_WAIT, hub.documents.release(&held)).await, Ok(Ok(())))
    {
        tracing::debug!(projection = %held.name, "cannot let go of a projection");
    }
    if ended == Ended::Forget {
        hub.documents.forget(hub.name()).await?;
        let status = hub.documents.register(hub.name(), hub.definition.version).await?;
        hub.reread(status);
        return Ok(());
    }
    if ended != Ended::Stopping {
        look(hub).await?;
    }
    Ok(())
}

/// Looks at which node owns the projection.
async fn look(hub: &Hub) -> Result<(), StoreError> {
    let asked_at = Instant::now();
    if let Some(status) = hub.documents.status(hub.name()).await? {
        hub.polled(status, asked_at);
    }
    Ok(())
}

/// A random number from 0 to 1.
fn chance() -> f64 {
    (Uuid::new_v4().as_u128() >> 64) as f64 / u64::MAX as f64
}
