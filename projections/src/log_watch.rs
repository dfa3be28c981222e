//! [`LogWatch`]: where the log ends, as this node knows it: by the store's notices at once, and by
//! a look every now and then whatever they say.

use std::{sync::Arc, time::Duration};

use tidewire_eventstore::{Commit, EventStore, GlobalPosition, LogEpoch};
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    time::{MissedTickBehavior, interval},
};

/// Where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogEnd {
    /// Its last position; lower than before only where `life` is another one.
    pub(crate) position: GlobalPosition,
    /// Raised when the log has another epoch than before.
    pub(crate) life: u64,
}

/// Keeps [`LogEnd`] up to date until nobody wants it any more.
pub(crate) struct LogWatch {
    log: Arc<dyn EventStore>,
    end: watch::Sender<LogEnd>,
    epoch: Option<LogEpoch>,
}

impl LogWatch {
    pub(crate) fn new(log: Arc<dyn EventStore>) -> (Self, watch::Receiver<LogEnd>) {
        let (end, receiver) = watch::channel(LogEnd::default());
        (Self { log, end, epoch: None }, receiver)
    }

    /// Runs until nobody has a receiver any more.
    pub(crate) async fn run(mut self, every: Duration) {
        let mut commits = Some(self.log.commits());
        let mut looks = interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let notice = async {
                match commits.as_mut() {
                    Some(commits) => commits.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.end.closed() => return,
                _ = looks.tick() => self.look().await,
                notice = notice => match notice {
                    Ok(Commit::Batch { events, .. }) => {
                        if let Some(last) = events.last() {
                            self.rise(last.position);
                        }
                    }
                    Ok(Commit::Head(position)) => self.rise(position),
                    Err(RecvError::Lagged(_)) => self.look().await,
                    Err(RecvError::Closed) => commits = None,
                },
            }
        }
    }

    async fn look(&mut self) {
        let head = match self.log.head().await {
            Ok(head) => head,
            Err(error) => {
                tracing::debug!(%error, "cannot look at the log's head");
                return;
            }
        };
        let epoch = head.epochs.last().copied();
        let known = self.epoch.is_some();
        if self.epoch.map(|epoch| epoch.epoch) == epoch.map(|epoch| epoch.epoch) {
            self.rise(head.position);
        } else {
            self.epoch = epoch;
            let life = self.end.borrow().life + u64::from(known);
            self.end.send_replace(LogEnd { position: head.position, life });
        }
    }

    fn rise(&self, position: GlobalPosition) {
        self.end.send_if_modified(|end| {
            let rises = position > end.position;
            end.position = end.position.max(position);
            rises
        });
    }
}
