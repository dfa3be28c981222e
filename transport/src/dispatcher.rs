//! The dispatcher: one actor a worker, which gives the worker's groups what the broadcaster sends
//! and speaks for the worker's sessions.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult};
use tidewire_eventstore::{GlobalPosition, TailBatch};
use tidewire_protocol::{Epoch, session::Input};

use crate::{registry::SessionDescription, worker::Worker};

/// Batches that may wait for a worker. A worker that far behind sends its sessions to the store.
const MAILBOX: usize = 256;

/// The actor.
pub(crate) struct Dispatcher {
    worker: Rc<Worker>,
}

impl Dispatcher {
    pub(crate) fn new(worker: Rc<Worker>) -> Self {
        Self { worker }
    }
}

impl Actor for Dispatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

/// The next events of the log.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Batch(pub(crate) TailBatch);

impl Handler<Batch> for Dispatcher {
    type Result = ();

    fn handle(&mut self, Batch(batch): Batch, ctx: &mut Context<Self>) {
        let holding = self.worker.hub.borrow_mut().dispatch(&batch.events, batch.committed_at);
        for held in holding {
            ctx.run_later(held.delay, move |this, _| this.worker.hub.borrow_mut().flush(held));
        }
    }
}

/// How far the log goes, after something was missed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Head(pub(crate) GlobalPosition);

impl Handler<Head> for Dispatcher {
    type Result = ();

    fn handle(&mut self, Head(head): Head, _: &mut Context<Self>) {
        self.worker.hub.borrow_mut().skip_to(head);
    }
}

/// The log has new epochs.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NewEpochs(pub(crate) Arc<[Epoch]>);

impl Handler<NewEpochs> for Dispatcher {
    type Result = ();

    fn handle(&mut self, NewEpochs(epochs): NewEpochs, _: &mut Context<Self>) {
        for session in self.worker.sessions() {
            session.handle(Input::Epochs(epochs.clone()));
        }
    }
}

/// Every session shall go; each is told when to come back, spread over a while.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain {
    pub(crate) spread: Duration,
}

impl Handler<Drain> for Dispatcher {
    type Result = ();

    fn handle(&mut self, Drain { spread }: Drain, _: &mut Context<Self>) {
        let sessions = self.worker.sessions();
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
        for (index, session) in (0..).zip(sessions) {
            let reconnect_after = spread * index / count;
            session.handle(Input::Drain { reconnect_after });
        }
    }
}

/// What the worker's sessions look like, at most so many.
#[derive(Message)]
#[rtype(result = "Vec<SessionDescription>")]
pub(crate) struct Describe {
    pub(crate) limit: usize,
}

impl Handler<Describe> for Dispatcher {
    type Result = MessageResult<Describe>;

    fn handle(&mut self, Describe { limit }: Describe, _: &mut Context<Self>) -> Self::Result {
        let sessions = self.worker.sessions();
        MessageResult(sessions.iter().take(limit).map(|session| session.describe()).collect())
    }
}
