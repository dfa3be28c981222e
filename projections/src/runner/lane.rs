//! [`Lane`]: fills one generation from the log, from its checkpoint to the head and then as the
//! head moves.
//!
//! A page is projected while the next one is read and the commit before is on its way. Whenever a
//! commit fails, for whatever reason, the lane forgets what it believes, asks the store where the
//! generation stands, and goes on from there: a commit whose answer was lost is found out so, and
//! none is applied twice, because each one names the checkpoint that it goes on from.

mod project;
mod recover;

use std::sync::Arc;

use tidewire_eventstore::{GlobalPosition, Page, ReadError};
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};

use self::project::Projected;
use super::{
    commit::{Committing, Done, Failed},
    reader::Reader,
    sql,
    turn::Turn,
};
use crate::{
    StoreError, WorkingSet,
    documents::{Commit, GenerationStatus, SqlBatch},
    feed::ChangeBatch,
    hub::{Counters, Hub},
    lease::Lease,
    log_watch::LogEnd,
    watched::unread,
};

/// Why a lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneEnd {
    /// It goes no further; the status says why.
    Stopped,
    /// Its generation is neither active nor being built any more.
    Retired,
    /// The projection is another node's, or the lease is over.
    Fenced,
}

/// What keeps a lane from going on.
enum Obstacle {
    End(LaneEnd),
    Store(StoreError),
    Commit(Failed),
}

impl From<StoreError> for Obstacle {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ReadError> for Obstacle {
    fn from(error: ReadError) -> Self {
        Self::Store(unread(error))
    }
}

/// Fills one generation.
pub(super) struct Lane {
    hub: Arc<Hub>,
    lease: Lease,
    turn: Turn,
    /// The generation as the lane began with it.
    generation: GenerationStatus,
    /// Whether it is the active one.
    active: bool,
    /// Where its checkpoint is once the commit on its way is there.
    checkpoint: GlobalPosition,
    /// Everything through here was projected; where no document changed the checkpoint follows
    /// later.
    scanned: GlobalPosition,
    /// When the checkpoint was written last.
    written_at: Instant,
    /// Events that it has parked, with those on their way.
    parked: u64,
    /// An event that is parked unseen: somebody asked for that.
    skip: Option<GlobalPosition>,
    /// An event that is known to fail, and why: alone in a batch it made the statement fail.
    failing: Option<(GlobalPosition, String)>,
    /// Whether the statement that empties what a SQL projection fills is still to run.
    reset_due: bool,
    /// The life of the log that the generation is known to belong to.
    life: Option<u64>,
    set: WorkingSet,
    reader: Reader,
    committing: Option<Committing>,
    /// Events of a batch, fewer while a failing one is searched for.
    batch_events: usize,
    failures: u32,
}

impl Lane {
    /// A lane that goes on with `generation`; parks the event at `skip` unseen.
    pub(super) fn new(
        hub: Arc<Hub>,
        lease: Lease,
        turn: Turn,
        generation: GenerationStatus,
        active: bool,
        skip: Option<GlobalPosition>,
    ) -> Self {
        let definition = Arc::clone(&hub.definition);
        let batch_events = hub.config.batch_events;
        Self {
            active,
            checkpoint: generation.checkpoint,
            scanned: generation.checkpoint,
            written_at: Instant::now(),
            parked: generation.parked,
            skip,
            failing: None,
            reset_due: generation.checkpoint == GlobalPosition::START,
            life: None,
            set: WorkingSet::new(&definition),
            reader: Reader::new(Arc::clone(&hub.log), &definition, batch_events),
            committing: None,
            batch_events,
            failures: 0,
            hub,
            lease,
            turn,
            generation,
        }
    }

    /// Runs until it ends.
    pub(super) async fn run(mut self) -> LaneEnd {
        loop {
            let Err(obstacle) = self.go_on().await;
            self.committing = None;
            self.set.clear();
            self.reader.reset();
            match self.recover(obstacle).await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    async fn go_on(&mut self) -> Result<std::convert::Infallible, Obstacle> {
        loop {
            let life = self.hub.end.borrow().life;
            if self.life != Some(life) {
                self.check_log().await?;
                self.life = Some(life);
            }
            if !self.active && self.is_near() {
                self.swap().await?;
            }
            if self.scanned >= self.hub.end.borrow().position {
                self.idle().await?;
            } else {
                let page = self.reader.page(self.scanned, None).await?;
                self.take(page, None).await?;
            }
        }
    }

    /// Projects a page, which was read up to `until`.
    async fn take(&mut self, page: Page, until: Option<GlobalPosition>) -> Result<(), Obstacle> {
        if page.head < self.scanned {
            return self.went_back(page.head).await;
        }
        if std::mem::take(&mut self.reset_due) {
            self.reset().await?;
        }
        let looked_through = match page.events.last() {
            Some(last) if page.more => last.position,
            _ => until.map_or(page.head, |until| until.min(page.head)),
        };
        let mut events = page.events.as_slice();
        while !events.is_empty() {
            let projected = self.project(events).await?;
            let (taken, rest) = events.split_at(projected.events);
            events = rest;
            let through = match (&projected.poison, taken.last()) {
                (Some((position, _)), _) => position.previous(),
                (None, _) if rest.is_empty() => looked_through,
                (None, Some(last)) => last.position,
                (None, None) => self.scanned,
            };
            let poison = projected.poison.clone();
            self.commit(projected, through).await?;
            if let Some((position, reason)) = poison {
                self.write_checkpoint().await?;
                return self.stop(Some(position), reason).await;
            }
            yield_now().await;
        }
        self.scanned = self.scanned.max(looked_through);
        if self.is_checkpoint_due() {
            self.write_checkpoint().await?;
        }
        if self.committing.is_none() {
            self.failures = 0;
        }
        Ok(())
    }

    /// Sends a batch on its way, after the one before has arrived. Its events were projected
    /// through `through`.
    async fn commit(
        &mut self,
        projected: Projected,
        through: GlobalPosition,
    ) -> Result<(), Obstacle> {
        let Projected { events, last, parked, sql, .. } = projected;
        let idle = self.set.dirty_len() == 0 && parked.is_empty() && sql.is_none();
        self.scanned = self.scanned.max(through);
        if idle {
            Counters::add(&self.hub.counters.events, events as u64);
            return Ok(());
        }
        let (writes, changes) = self.set.take_writes();
        self.settle().await?;
        let commit = Commit {
            held: self.lease.held.clone(),
            generation: self.generation.generation,
            expected: self.checkpoint,
            position: self.scanned,
            writes,
            parked,
            sql,
        };
        let batch = ChangeBatch {
            generation: commit.generation,
            after: commit.expected,
            position: commit.position,
            changes,
        };
        let parked = commit.parked.len() as u64;
        let done = Done { batch, parked, events, last, writes: commit.writes.len() };
        self.send(commit, done).await
    }

    /// Moves the checkpoint to where everything was projected, without any document.
    async fn write_checkpoint(&mut self) -> Result<(), Obstacle> {
        self.settle().await?;
        if self.checkpoint == self.scanned {
            return Ok(());
        }
        self.commit_bare(None).await?;
        self.settle().await
    }

    /// Empties what a SQL projection fills, before its first event.
    async fn reset(&mut self) -> Result<(), Obstacle> {
        let hub = Arc::clone(&self.hub);
        let reset = hub.projection.sql().and_then(|statements| statements.reset.as_ref());
        if let Some(reset) = reset
            && self.checkpoint == GlobalPosition::START
        {
            self.commit_bare(Some(sql::bare(reset))).await?;
            self.settle().await?;
        }
        Ok(())
    }

    async fn commit_bare(&mut self, sql: Option<SqlBatch>) -> Result<(), Obstacle> {
        let commit = Commit {
            held: self.lease.held.clone(),
            generation: self.generation.generation,
            expected: self.checkpoint,
            position: self.scanned,
            writes: Vec::new(),
            parked: Vec::new(),
            sql,
        };
        let batch = ChangeBatch {
            generation: commit.generation,
            after: commit.expected,
            position: commit.position,
            changes: Vec::new(),
        };
        // The set counts what was taken from it against what was committed.
        let (writes, _) = self.set.take_writes();
        debug_assert!(writes.is_empty());
        let done = Done { last: batch.position, batch, parked: 0, events: 0, writes: 0 };
        self.send(commit, done).await
    }

    async fn send(&mut self, commit: Commit, done: Done) -> Result<(), Obstacle> {
        let turn = if self.active {
            let turn = self.turn.take().await;
            if *turn != commit.generation {
                return Err(Obstacle::End(LaneEnd::Retired));
            }
            Some(turn)
        } else {
            None
        };
        if !self.lease.may_write() {
            return Err(Obstacle::End(LaneEnd::Fenced));
        }
        self.checkpoint = commit.position;
        self.written_at = Instant::now();
        self.committing = Some(Committing::begin(&self.hub.documents, commit, done, turn));
        Ok(())
    }

    /// Waits for the commit on its way, if there is one.
    async fn settle(&mut self) -> Result<(), Obstacle> {
        let Some(committing) = self.committing.take() else { return Ok(()) };
        let hub = &self.hub;
        let told = |done: Done| {
            done.count(&hub.counters);
            hub.committed(done.batch, done.parked);
        };
        let events = committing.end(told).await.map_err(Obstacle::Commit)?;
        self.set.committed();
        self.set.evict(self.hub.config.documents_bytes);
        if events > 0 {
            // What took no event says nothing about the next that are tried.
            self.failures = 0;
            self.batch_events = (self.batch_events * 2).min(self.hub.config.batch_events);
        }
        Ok(())
    }

    /// Waits for something to do; meanwhile the checkpoint follows.
    async fn idle(&mut self) -> Result<(), Obstacle> {
        self.settle().await?;
        let hub = Arc::clone(&self.hub);
        let interest = hub.interest();
        tokio::pin!(interest);
        interest.as_mut().enable();
        if self.is_checkpoint_due() {
            return self.write_checkpoint().await;
        }
        let behind = self.checkpoint < self.scanned;
        let follow_at = if behind {
            self.written_at + hub.config.checkpoint_delay
        } else {
            // Another look, for a rebuild that waits to be swapped.
            Instant::now() + hub.config.poll
        };
        let mut end = hub.end.clone();
        let (scanned, life) = (self.scanned, self.life);
        let moved = |end: &LogEnd| end.position > scanned || Some(end.life) != life;
        tokio::select! {
            _ = end.wait_for(moved) => {}
            () = interest, if behind => {}
            () = sleep_until(follow_at), if behind || !self.active => {}
        }
        Ok(())
    }

    fn is_checkpoint_due(&self) -> bool {
        self.checkpoint < self.scanned
            && (self.written_at.elapsed() >= self.hub.config.checkpoint_delay
                || (self.active && self.hub.is_awaited()))
    }

    /// Whether a page or so is left to the active generation's checkpoint.
    fn is_near(&self) -> bool {
        let active = self.hub.known().status.active.checkpoint;
        active.distance_from(self.scanned) <= self.hub.config.batch_events as u64
    }

    /// Makes this generation the active one. The active one stands still until that is done or
    /// turns out not to be possible.
    async fn swap(&mut self) -> Result<(), Obstacle> {
        self.settle().await?;
        let mut turn = self.turn.take().await;
        let active = self.hub.known().status.active.checkpoint;
        while self.scanned < active {
            let page = self.reader.page(self.scanned, Some(active)).await?;
            self.take(page, Some(active)).await?;
        }
        self.write_checkpoint().await?;
        if !self.lease.may_write() {
            return Err(Obstacle::End(LaneEnd::Fenced));
        }
        let generation = self.generation.generation;
        if self.hub.documents.swap(&self.lease.held, generation).await? {
            self.active = true;
            self.hub.swapped(generation);
            self.turn.swap(&mut turn, generation);
            tracing::info!(projection = %self.hub.name(), %generation, "swapped generations");
        } else {
            // It stands further than this node believes.
            drop(turn);
            return Err(Obstacle::Store(StoreError::Unavailable));
        }
        Ok(())
    }
}
