//! The broadcaster: one actor a process, which gives each worker every batch of the log once.
//!
//! Batches come from the [log's tail](tidewire_eventstore::LogTail), in order and without holes. A
//! worker's mailbox is bounded; a worker that is too busy to take a batch is told, as soon as it
//! has room, how far the log goes, and sends its sessions to the store for what it missed.
//! The other workers do not wait for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, StreamHandler,
    dev::SendError,
};
use tidewire_eventstore::{GlobalPosition, TailBatch};
use tidewire_protocol::Epoch;

use crate::{
    dispatcher::{Batch, Dispatcher, Head, NewEpochs},
    metrics::Metrics,
};

/// How often a worker that had no room is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// The actor.
pub(crate) struct Broadcaster {
    last: GlobalPosition,
    /// `last`, for all who want to look.
    head: Arc<AtomicU64>,
    workers: Vec<Reached>,
    metrics: Arc<Metrics>,
}

struct Reached {
    dispatcher: Addr<Dispatcher>,
    /// It had no room for something and has to be told the head.
    missed: bool,
}

impl Broadcaster {
    pub(crate) fn new(last: GlobalPosition, head: Arc<AtomicU64>, metrics: Arc<Metrics>) -> Self {
        Self { last, head, workers: Vec::new(), metrics }
    }

    fn retry(&mut self, ctx: &mut Context<Self>) {
        let last = self.last;
        self.workers.retain_mut(|worker| {
            if worker.missed {
                match worker.dispatcher.try_send(Head(last)) {
                    Ok(()) => worker.missed = false,
                    Err(SendError::Full(_)) => {}
                    Err(SendError::Closed(_)) => return false,
                }
            }
            true
        });
        if self.workers.iter().any(|worker| worker.missed) {
            ctx.run_later(RETRY, Self::retry);
        }
    }
}

impl Actor for Broadcaster {
    type Context = Context<Self>;
}

impl StreamHandler<TailBatch> for Broadcaster {
    fn handle(&mut self, batch: TailBatch, ctx: &mut Context<Self>) {
        let Some(last) = batch.events.last() else { return };
        self.last = last.position;
        self.head.store(last.position.get(), Ordering::Release);
        let retrying = self.workers.iter().any(|worker| worker.missed);
        let metrics = &self.metrics;
        self.workers.retain_mut(|worker| {
            // Once it has missed something, a batch would not connect: it waits for the head.
            if worker.missed {
                return true;
            }
            match worker.dispatcher.try_send(Batch(batch.clone())) {
                Ok(()) => {}
                Err(SendError::Full(_)) => {
                    metrics.broadcasts_refused.fetch_add(1, Ordering::Relaxed);
                    worker.missed = true;
                }
                Err(SendError::Closed(_)) => return false,
            }
            true
        });
        if !retrying && self.workers.iter().any(|worker| worker.missed) {
            ctx.run_later(RETRY, Self::retry);
        }
    }

    fn finished(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// A worker wants every batch from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Join(pub(crate) Addr<Dispatcher>);

impl Handler<Join> for Broadcaster {
    type Result = ();

    fn handle(&mut self, Join(dispatcher): Join, ctx: &mut Context<Self>) {
        // What was committed between the worker's start and now is told as a head.
        self.workers.push(Reached { dispatcher, missed: true });
        self.retry(ctx);
    }
}

/// The log has new epochs.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EpochsChanged(pub(crate) Arc<[Epoch]>);

impl Handler<EpochsChanged> for Broadcaster {
    type Result = ();

    fn handle(&mut self, EpochsChanged(epochs): EpochsChanged, _: &mut Context<Self>) {
        for worker in &self.workers {
            // Rare, and an epoch must not get lost: past the mailbox's bound.
            worker.dispatcher.do_send(NewEpochs(epochs.clone()));
        }
    }
}
