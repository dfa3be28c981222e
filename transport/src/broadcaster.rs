//! The broadcaster: one actor a process, which gives each worker every batch of the log once.
//!
//! Batches come from the [log's tail](tidewire_eventstore::LogTail), in order and without holes,
//! and between them the news that the log has other epochs, or that events were removed. A worker's mailbox is bounded; a worker
//! that is too busy to take something is told, as soon as it has room, what the log is like now: it
//! sends its sessions to the store for what they missed, and begins anew where the log did. The
//! other workers do not wait for it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, StreamHandler,
    dev::SendError,
};
use tidewire_eventstore::{
    GlobalPosition, Payload, RecordedEvent, Removals, TailBatch, TailEpochs, TailNews,
};

use crate::{
    dispatcher::{Batch, Dispatcher, Told},
    log_view::{LogView, SharedView},
    metrics::Metrics,
};

/// How often a worker that had no room is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// The actor.
pub(crate) struct Broadcaster {
    log: LogView,
    /// `log`, for all who want to look.
    shared: Arc<SharedView>,
    workers: Vec<Reached>,
    /// Workers that had no room will be tried again.
    retrying: bool,
    metrics: Arc<Metrics>,
}

struct Reached {
    dispatcher: Addr<Dispatcher>,
    /// It was not told everything, and has to be told what the log is like.
    missed: bool,
}

impl Broadcaster {
    pub(crate) fn new(log: LogView, shared: Arc<SharedView>, metrics: Arc<Metrics>) -> Self {
        Self { log, shared, workers: Vec::new(), retrying: false, metrics }
    }

    fn batch(&mut self, batch: &TailBatch, ctx: &mut Context<Self>) {
        let Some(last) = batch.events.last() else { return };
        self.log.head = last.position;
        let erased = batch.events.iter().filter_map(erased_position).max();
        match erased {
            Some(position) => {
                self.log.erased(position);
                self.shared.replace(&self.log);
            }
            None => self.shared.advance(last.position),
        }
        let purge = self.log.purge;
        let metrics = &self.metrics;
        self.workers.retain_mut(|worker| {
            // Once it has missed something, a batch would not connect.
            if worker.missed {
                return true;
            }
            match worker.dispatcher.try_send(Batch { batch: batch.clone(), purge }) {
                Ok(()) => {}
                Err(SendError::Full(_)) => {
                    metrics.broadcasts_refused.fetch_add(1, Ordering::Relaxed);
                    worker.missed = true;
                }
                Err(SendError::Closed(_)) => return false,
            }
            true
        });
        self.retry_soon(ctx);
    }

    fn epochs(&mut self, TailEpochs { epochs, after }: &TailEpochs, ctx: &mut Context<Self>) {
        let rewound = self.log.head.distance_from(*after);
        tracing::warn!(
            epochs = epochs.len(),
            head = after.get(),
            rewound_events = rewound,
            "the log has a new epoch; every session has to come back"
        );
        self.log = self.log.next(*after, epochs);
        self.shared.replace(&self.log);
        for worker in &mut self.workers {
            worker.missed = true;
        }
        self.tell(ctx);
    }

    fn removals(&mut self, removals: Removals, ctx: &mut Context<Self>) {
        if !self.log.removed(removals) {
            return;
        }
        self.shared.replace(&self.log);
        for worker in &mut self.workers {
            worker.missed = true;
        }
        self.tell(ctx);
    }

    /// Tells those who missed something what the log is like, as far as they have room.
    fn tell(&mut self, ctx: &mut Context<Self>) {
        let log = &self.log;
        self.workers.retain_mut(|worker| {
            if worker.missed {
                match worker.dispatcher.try_send(Told(log.clone())) {
                    Ok(()) => worker.missed = false,
                    Err(SendError::Full(_)) => {}
                    Err(SendError::Closed(_)) => return false,
                }
            }
            true
        });
        self.retry_soon(ctx);
    }

    /// Sees to it that those who missed something are told, once.
    fn retry_soon(&mut self, ctx: &mut Context<Self>) {
        if !self.retrying && self.workers.iter().any(|worker| worker.missed) {
            self.retrying = true;
            ctx.run_later(RETRY, |this, ctx| {
                this.retrying = false;
                this.metrics.broadcast_retries.fetch_add(1, Ordering::Relaxed);
                this.tell(ctx);
            });
        }
    }
}

impl Actor for Broadcaster {
    type Context = Context<Self>;
}

impl StreamHandler<TailNews> for Broadcaster {
    fn handle(&mut self, news: TailNews, ctx: &mut Context<Self>) {
        match news {
            TailNews::Batch(batch) => self.batch(&batch, ctx),
            TailNews::Epochs(epochs) => self.epochs(&epochs, ctx),
            TailNews::Removals(removals) => self.removals(removals, ctx),
        }
    }

    fn finished(&mut self, ctx: &mut Context<Self>) {
        // Unless the transport was stopped, somebody has to see to it.
        if self.shared.stop_following() {
            tracing::error!("the log is not followed any more; restart this process");
        }
        ctx.stop();
    }
}

/// A worker wants everything from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Join(pub(crate) Addr<Dispatcher>);

impl Handler<Join> for Broadcaster {
    type Result = ();

    fn handle(&mut self, Join(dispatcher): Join, ctx: &mut Context<Self>) {
        // It does not know what happened between its start and now.
        self.workers.push(Reached { dispatcher, missed: true });
        self.tell(ctx);
    }
}

/// This node removed something; the tail would find out later.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RemovedHere(pub(crate) Removals);

impl Handler<RemovedHere> for Broadcaster {
    type Result = ();

    fn handle(&mut self, RemovedHere(removals): RemovedHere, ctx: &mut Context<Self>) {
        // Answers of the store may overtake each other.
        if removals.batches > self.log.removals.batches {
            self.removals(removals, ctx);
        }
    }
}

/// Which event the notice of an erasure is about; none for other events. A notice that cannot be
/// read is about everything before it.
fn erased_position(event: &RecordedEvent) -> Option<GlobalPosition> {
    #[derive(serde::Deserialize)]
    struct Erased {
        position: u64,
    }
    if !event.is_erasure() {
        return None;
    }
    let erased = match &event.payload {
        Payload::Json(data) => serde_json::from_slice::<Erased>(data).ok(),
        _ => None,
    };
    Some(erased.map_or(event.position, |erased| GlobalPosition::new(erased.position)))
}

#[cfg(test)]
mod tests;
