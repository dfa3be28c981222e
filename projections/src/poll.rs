//! What a node asks the database about all its projections once a second: which node owns which,
//! how far each has come, what somebody wishes, and since when the first event waits that is yet
//! to be projected. One question for all of them, and one for each that is behind.

use std::sync::Arc;

use tidewire_eventstore::Read;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::hub::{Hub, Shared};

/// Runs until the node stops.
pub(crate) async fn run(shared: Shared, hubs: Vec<Arc<Hub>>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(shared.config.poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let polling = async {
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shared.look.notified() => {}
            }
            poll(&shared, &hubs).await;
        }
    };
    tokio::select! {
        () = polling => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn poll(shared: &Shared, hubs: &[Arc<Hub>]) {
    let asked_at = Instant::now();
    let statuses = match shared.documents.statuses().await {
        Ok(statuses) => statuses,
        Err(error) => {
            tracing::debug!(%error, "cannot ask how projections are doing");
            return;
        }
    };
    for status in statuses {
        if let Some(hub) = hubs.iter().find(|hub| *hub.name() == status.name) {
            hub.polled(status, asked_at);
        }
    }
    for hub in hubs {
        hub.observe_pace();
        look_behind(hub).await;
    }
}

/// Looks for the first event that is yet to be projected.
async fn look_behind(hub: &Hub) {
    let checkpoint = hub.known().status.active.checkpoint;
    if checkpoint >= hub.end.borrow().position {
        hub.set_behind_since(None);
        return;
    }
    let definition = &hub.definition;
    let read = Read {
        types: definition.types.clone(),
        ..Read::after(definition.target.clone(), checkpoint, 1)
    };
    if let Ok(page) = hub.log.read(read).await {
        hub.set_behind_since(page.events.first().map(|event| event.recorded_at));
    }
}
