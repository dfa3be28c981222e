//! The dispatcher: one actor a worker, which gives the worker's groups what the broadcaster sends
//! and speaks for the worker's sessions.

use std::{rc::Rc, time::Duration};

use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult};
use tidewire_eventstore::{GlobalPosition, ProjectionName, Removals, TailBatch};
use tidewire_protocol::session::Input;

use crate::{
    live::LiveNews,
    log_view::{LogView, Purge},
    registry::SessionDescription,
    worker::Worker,
};

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
pub(crate) struct Batch {
    pub(crate) batch: TailBatch,
    /// What has to be thrown away before.
    pub(crate) purge: Purge,
}

impl Handler<Batch> for Dispatcher {
    type Result = ();

    fn handle(&mut self, Batch { batch, purge }: Batch, ctx: &mut Context<Self>) {
        self.worker.purge(purge);
        let holding = self.worker.hub.borrow_mut().dispatch(&batch.events, batch.committed_at);
        for held in holding {
            ctx.run_later(held.delay, move |this, _| this.worker.hub.borrow_mut().flush(held));
        }
    }
}

/// What becomes of a projection that the worker follows.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LiveTold {
    pub(crate) projection: ProjectionName,
    pub(crate) news: LiveNews,
}

impl Handler<LiveTold> for Dispatcher {
    type Result = ();

    fn handle(&mut self, LiveTold { projection, news }: LiveTold, _: &mut Context<Self>) {
        let wanting = self.worker.live.borrow_mut().told(&projection, &news);
        self.worker.fill_windows(wanting);
    }
}

/// What the log is like, after something was missed or its epochs changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Told(pub(crate) LogView);

impl Handler<Told> for Dispatcher {
    type Result = ();

    fn handle(&mut self, Told(log): Told, _: &mut Context<Self>) {
        self.worker.told(&log);
    }
}

/// How far the worker has looked at the log, and at what was removed.
#[derive(Message)]
#[rtype(result = "(GlobalPosition, Removals)")]
pub(crate) struct Looked;

impl Handler<Looked> for Dispatcher {
    type Result = MessageResult<Looked>;

    fn handle(&mut self, _: Looked, _: &mut Context<Self>) -> Self::Result {
        MessageResult((self.worker.hub.borrow().last(), self.worker.removals()))
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
