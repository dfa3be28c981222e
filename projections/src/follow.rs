//! Following a projection that another node runs. Documents have no notices: while somebody on
//! this node follows or waits, and the log has moved, the store is asked for changes, at first
//! often and then less so. What this node commits itself, its runner tells.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use crate::{
    StoreError,
    documents::{ChangesRead, PAGE_MAX},
    feed::{Before, ChangeBatch, Content, DocumentChange},
    hub::Hub,
    log_watch::LogEnd,
};

/// Runs until the node stops.
pub(crate) async fn run(hub: Arc<Hub>, mut stop: watch::Receiver<bool>) {
    let mut following = Following { pause: hub.config.follow_min, hub };
    tokio::select! {
        () = following.run() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

struct Following {
    hub: Arc<Hub>,
    pause: Duration,
}

impl Following {
    async fn run(&mut self) {
        let mut end = self.hub.end.clone();
        let mut known = self.hub.watch();
        let mut life = end.borrow().life;
        loop {
            let hub = Arc::clone(&self.hub);
            let interest = hub.interest();
            tokio::pin!(interest);
            interest.as_mut().enable();
            let log_end = *end.borrow_and_update();
            if log_end.life != life {
                life = log_end.life;
                hub.went_back();
            }
            if self.is_due(log_end) {
                self.ask().await;
                sleep(self.pause).await;
                continue;
            }
            self.pause = hub.config.follow_min;
            let (owned, stopped) = {
                let known = known.borrow_and_update();
                (known.owned, known.status.active.stopped.is_some())
            };
            let changed = async {
                // Who owns, and whether it goes on, decides whether there is something to do.
                loop {
                    if known.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                    let known = known.borrow_and_update();
                    if (known.owned, known.status.active.stopped.is_some()) != (owned, stopped) {
                        return;
                    }
                }
            };
            tokio::select! {
                moved = end.changed() => if moved.is_err() { return },
                () = interest => {}
                () = changed => {}
            }
        }
    }

    /// Whether there may be changes that somebody on this node wants to hear of.
    fn is_due(&self, end: LogEnd) -> bool {
        let known = self.hub.known();
        !known.owned
            && !known.closed
            && known.status.active.stopped.is_none()
            && known.status.active.checkpoint < end.position
            && self.hub.is_watched()
    }

    /// Asks for changes and tells them.
    async fn ask(&mut self) {
        let hub = &self.hub;
        let reached = hub.known().reached();
        let read = ChangesRead {
            generation: reached.generation,
            after: reached.position,
            limit: PAGE_MAX,
        };
        let moved = match hub.documents.changes(read).await {
            Ok(page) if !page.active => {
                hub.look.notify_one();
                false
            }
            Ok(page) if page.through > reached.position => {
                let change = |(key, _, after): (_, _, Option<_>)| DocumentChange {
                    key,
                    before: Before::Unknown,
                    after: after.map(Content::new),
                };
                let (after, position, changes) = if page.complete && !page.more {
                    let changes = page.changes.into_iter().map(change).collect();
                    (reached.position, page.through, changes)
                } else {
                    // Told as a hole. Whoever looks into it learns that it cannot be filled; or
                    // reads to its end, for a document that changed once more after this page is
                    // not in it, and without that one the page is no picture of any position.
                    (page.checkpoint, page.checkpoint, Vec::new())
                };
                let generation = reached.generation;
                let batch = ChangeBatch { generation, after, position, changes };
                hub.followed(reached, batch);
                true
            }
            Ok(_) => false,
            // It was retired and swept: another is active.
            Err(StoreError::Unknown) => {
                hub.look.notify_one();
                false
            }
            Err(error) => {
                tracing::debug!(projection = %hub.name(), %error, "cannot read changes");
                false
            }
        };
        let config = &hub.config;
        let nobody_runs_it = hub.known().status.owner.is_none();
        let pause_max = if nobody_runs_it { config.poll } else { config.follow_max };
        self.pause = if moved { config.follow_min } else { (self.pause * 2).min(pause_max) };
    }
}
