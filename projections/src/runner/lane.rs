//! [`Lane`]: fills one generation from the log, from its checkpoint to the head and then as the
//! head moves.
//!
//! A page is projected while the next one is read and the commit before is on its way. Whenever a
//! commit fails, for whatever reason, the lane forgets what it believes, asks the store where the
//! generation stands, and goes on from there: a commit whose answer was lost is found out so, and
//! none is applied twice, because each one names the checkpoint that it goes on from.

use std::sync::Arc;

use tidewire_eventstore::{GlobalPosition, Page, ReadError, RecordedEvent};
use tokio::{
    task::yield_now,
    time::{Instant, sleep, sleep_until},
};

use super::{
    batch::{self, Bounds, Named},
    chance,
    commit::{Committing, Done, Failed},
    reader::Reader,
    sql,
    turn::Turn,
};
use crate::{
    EVENT_CHANGES_MAX, OnPoison, StoreError, WorkingSet,
    documents::{COMMIT_WRITES_MAX, Commit, GenerationStatus, Parked, SqlBatch, Stopped},
    feed::ChangeBatch,
    hub::{Counters, Hub},
    lease::Lease,
    log_watch::LogEnd,
    watched::unread,
};

/// Failures in a row that are not the database's absence, after which a lane stops.
const FAILURES_MAX: u32 = 5;

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

/// A batch that was projected.
#[derive(Default)]
struct Projected {
    /// How many of the events it took.
    events: usize,
    /// The last of them.
    last: GlobalPosition,
    parked: Vec<Parked>,
    sql: Option<SqlBatch>,
    /// The event after those that it took is poison, and the projection stops there.
    poison: Option<(GlobalPosition, String)>,
}

impl Projected {
    fn took(&mut self, event: &RecordedEvent) {
        self.events += 1;
        self.last = event.position;
    }
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

    /// Projects the first of `events`, as many as make a batch.
    async fn project(&mut self, events: &[RecordedEvent]) -> Result<Projected, Obstacle> {
        let hub = Arc::clone(&self.hub);
        let projection = hub.projection.as_ref();
        if let Some(statements) = projection.sql() {
            return Ok(self.gather(events, &statements.apply));
        }
        let bounds = Bounds {
            events: self.batch_events,
            event_bytes: hub.config.batch_bytes,
            document_bytes: hub.config.documents_bytes,
        };
        let mut named = Named::of(projection, events, bounds).await;
        let generation = self.generation.generation;
        named.load(&mut self.set, hub.documents.as_ref(), generation, bounds).await?;
        let mut projected = Projected::default();
        for (number, event) in events.iter().take(named.len()).enumerate() {
            let outcome = match self.foreseen(event) {
                Some(reason) => Err(reason),
                None => match named.keys(number) {
                    Ok([]) => Ok(()),
                    Ok(keys) => batch::project(projection, &mut self.set, event, keys),
                    Err(reason) => Err(reason.to_owned()),
                },
            };
            if let Err(reason) = outcome
                && !self.put_aside(event, reason, &mut projected)
            {
                return Ok(projected);
            }
            projected.took(event);
            let full = self.set.dirty_len() > COMMIT_WRITES_MAX - EVENT_CHANGES_MAX
                || self.set.len_bytes() > 2 * bounds.document_bytes;
            if full {
                break;
            }
            if projected.events.is_multiple_of(256) {
                yield_now().await;
            }
        }
        Ok(projected)
    }

    /// Gathers the first of `events` for a statement, as many as make a batch.
    fn gather(&mut self, events: &[RecordedEvent], statement: &Arc<str>) -> Projected {
        let mut projected = Projected::default();
        let mut gathered = Vec::new();
        let mut bytes = 0;
        for event in events.iter().take(self.batch_events.max(1)) {
            bytes += event.payload.len();
            if bytes > self.hub.config.batch_bytes && projected.events > 0 {
                break;
            }
            if let Some(reason) = self.foreseen(event) {
                if !self.put_aside(event, reason, &mut projected) {
                    break;
                }
            } else if batch::concerns(event, self.hub.projection.as_ref()) {
                gathered.push(event);
            }
            projected.took(event);
        }
        if !gathered.is_empty() {
            projected.sql = Some(sql::batch(statement, gathered.into_iter()));
        }
        projected
    }

    /// Why an event is put aside or stopped at without being tried.
    fn foreseen(&self, event: &RecordedEvent) -> Option<String> {
        if self.skip == Some(event.position) {
            return Some("somebody asked to skip it".into());
        }
        let failing = self.failing.as_ref().filter(|(position, _)| *position == event.position);
        failing.map(|(_, reason)| reason.clone())
    }

    /// Parks an event, or says with `false` that the projection stops before it.
    fn put_aside(
        &mut self,
        event: &RecordedEvent,
        mut reason: String,
        projected: &mut Projected,
    ) -> bool {
        let asked = self.skip == Some(event.position);
        if !asked {
            Counters::add(&self.hub.counters.poison, 1);
        }
        let room = self.parked < self.hub.config.parked_max;
        if asked || (self.hub.policy.on_poison == OnPoison::Park && room) {
            self.parked += 1;
            projected.parked.push(Parked { position: event.position, reason });
            return true;
        }
        if self.hub.policy.on_poison == OnPoison::Park {
            reason = format!("{} events are parked already; {reason}", self.parked);
        }
        projected.poison = Some((event.position, reason));
        false
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

    /// Looks whether the log still holds what was projected, and goes on from what the store has.
    async fn check_log(&mut self) -> Result<(), Obstacle> {
        self.settle().await?;
        self.set.clear();
        self.reader.reset();
        self.reread().await?;
        let head = self.hub.log.head().await?.position;
        if head < self.checkpoint { self.went_back(head).await } else { Ok(()) }
    }

    /// The log ends before what was projected.
    async fn went_back(&mut self, head: GlobalPosition) -> Result<(), Obstacle> {
        self.settle().await?;
        self.reread().await?;
        if self.checkpoint <= head {
            // The documents went back with it.
            return Err(Obstacle::Store(StoreError::Conflict));
        }
        let reason = format!(
            "the log ends at {head}, before what the documents hold ({}): they are of another \
             life of the log and have to be rebuilt",
            self.checkpoint
        );
        self.stop(None, reason).await
    }

    /// Says that this generation goes no further.
    async fn stop(
        &mut self,
        position: Option<GlobalPosition>,
        reason: String,
    ) -> Result<(), Obstacle> {
        let generation = self.generation.generation;
        let at = position.map(GlobalPosition::get);
        tracing::error!(projection = %self.hub.name(), position = at, reason, "projection stopped");
        let stopped = Some(Stopped { position, reason });
        let store = &self.hub.documents;
        store.set_stopped(&self.lease.held, generation, stopped.clone()).await?;
        self.hub.set_stopped(generation, stopped);
        Err(Obstacle::End(LaneEnd::Stopped))
    }

    /// Finds out where the generation stands after something went wrong.
    async fn recover(&mut self, obstacle: Obstacle) -> Result<(), LaneEnd> {
        let mut obstacle = obstacle;
        loop {
            let error = match obstacle {
                Obstacle::End(end) => return Err(end),
                Obstacle::Store(error) => error,
                Obstacle::Commit(failed) => self.learn(failed),
            };
            if error == StoreError::Fenced {
                return Err(LaneEnd::Fenced);
            }
            tracing::debug!(projection = %self.hub.name(), %error, "projection is held up");
            if error != StoreError::Conflict || self.failures > 0 {
                sleep(self.hub.config.retry.delay(self.failures, chance())).await;
            }
            self.failures = self.failures.saturating_add(1);
            let hopeless = matches!(error, StoreError::Refused { .. } | StoreError::Corrupt { .. });
            let outcome = if hopeless && self.failures > FAILURES_MAX {
                self.stop(None, error.to_string()).await
            } else {
                self.reread().await
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(next) => obstacle = next,
            }
        }
    }

    /// What a failed commit teaches: where a statement fails on one event of many, fewer are tried
    /// at once until it is found.
    fn learn(&mut self, failed: Failed) -> StoreError {
        let Failed { error, events, position } = failed;
        let StoreError::Sql { sqlstate, .. } = &error else { return error };
        if sql::may_pass(sqlstate) {
            return StoreError::Unavailable;
        }
        if events > 1 {
            self.batch_events = events / 2;
        } else if events == 1 {
            self.failing = Some((position, error.to_string()));
        } else {
            return StoreError::Refused { reason: error.to_string() };
        }
        self.failures = 0;
        StoreError::Conflict
    }

    /// Goes on from where the store says that the generation stands.
    async fn reread(&mut self) -> Result<(), Obstacle> {
        let hub = Arc::clone(&self.hub);
        let status = hub.documents.status(hub.name()).await?.ok_or(StoreError::Fenced)?;
        if status.fence != self.lease.held.fence {
            return Err(Obstacle::End(LaneEnd::Fenced));
        }
        let id = self.generation.generation;
        let found = [Some(&status.active), status.building.as_ref()]
            .into_iter()
            .flatten()
            .find(|generation| generation.generation == id);
        let Some(found) = found else { return Err(Obstacle::End(LaneEnd::Retired)) };
        if !self.active && status.active.generation == id {
            // The answer to a swap was lost.
            let mut turn = self.turn.take().await;
            self.active = true;
            hub.swapped(id);
            self.turn.swap(&mut turn, id);
        }
        self.checkpoint = found.checkpoint;
        self.scanned = found.checkpoint;
        self.parked = found.parked;
        self.reset_due = found.checkpoint == GlobalPosition::START;
        self.generation = found.clone();
        hub.found(found);
        Ok(())
    }
}
