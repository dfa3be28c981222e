//! [`Hub`]: what this node knows of one projection, and whom it tells. The runner, where this node
//! owns the projection, and the follower, where another does, put in; whoever watches takes out.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidewire_eventstore::{EventStore, Generation, GlobalPosition, ProjectionName, Timestamp};
use tidewire_protocol::query::Reached;
use tokio::{
    sync::{Notify, broadcast, watch},
    time::Instant,
};

use crate::{
    Config, DocumentStore, Policy, Projection, ProjectionState, ProjectionStats,
    definition::Definition,
    documents::{GenerationStatus, Status, Stopped, Wish},
    feed::{ChangeBatch, FeedNews},
    feed_bytes::FeedBytes,
    log_watch::LogEnd,
    rebuild::Pace,
    status::{Lag, Progress},
};

/// One projection on this node.
pub(crate) struct Hub {
    pub(crate) definition: Arc<Definition>,
    pub(crate) projection: Arc<dyn Projection>,
    pub(crate) policy: Policy,
    pub(crate) config: Arc<Config>,
    pub(crate) log: Arc<dyn EventStore>,
    pub(crate) documents: Arc<dyn DocumentStore>,
    /// Where the log ends.
    pub(crate) end: watch::Receiver<LogEnd>,
    /// Has the database's statuses looked at now.
    pub(crate) look: Arc<Notify>,
    pub(crate) counters: Counters,
    known: watch::Sender<Known>,
    feed: broadcast::Sender<FeedNews>,
    /// Held while `known` moves and the feed is told of it, so that nobody who begins to follow
    /// falls in between.
    telling: Mutex<FeedBytes>,
    waiters: AtomicUsize,
    /// Told when somebody begins to follow or to wait.
    interest: Notify,
}

/// What this node knows.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) status: Status,
    /// When the active checkpoint moved here.
    pub(crate) moved_at: Instant,
    /// Whether this node owns it.
    pub(crate) owned: bool,
    /// When the first event was recorded that is yet to be projected.
    pub(crate) behind_since: Option<Timestamp>,
    pub(crate) pace: Pace,
    /// Whether the node is closing: nothing changes any more.
    pub(crate) closed: bool,
}

impl Known {
    pub(crate) fn reached(&self) -> Reached {
        let active = &self.status.active;
        Reached { generation: active.generation, position: active.checkpoint }
    }
}

/// What this node has done.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) events: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) poison: AtomicU64,
    pub(crate) claims: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// The parts of a hub that all projections of a node share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) log: Arc<dyn EventStore>,
    pub(crate) documents: Arc<dyn DocumentStore>,
    pub(crate) end: watch::Receiver<LogEnd>,
    pub(crate) look: Arc<Notify>,
}

impl Hub {
    pub(crate) fn new(
        shared: Shared,
        projection: Arc<dyn Projection>,
        policy: Policy,
        status: Status,
    ) -> Self {
        let Shared { config, log, documents, end, look } = shared;
        let known = Known {
            status,
            moved_at: Instant::now(),
            owned: false,
            behind_since: None,
            pace: Pace::default(),
            closed: false,
        };
        Self {
            definition: Arc::new(projection.definition().clone()),
            projection,
            policy,
            feed: broadcast::Sender::new(config.feed_batches.max(1)),
            telling: Mutex::new(FeedBytes::new(config.feed_bytes)),
            config,
            log,
            documents,
            end,
            look,
            counters: Counters::default(),
            known: watch::Sender::new(known),
            waiters: AtomicUsize::new(0),
            interest: Notify::new(),
        }
    }

    pub(crate) fn name(&self) -> &ProjectionName {
        &self.definition.name
    }

    pub(crate) fn known(&self) -> watch::Ref<'_, Known> {
        self.known.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// Begins to follow: what moves from now on is told.
    pub(crate) fn follow(&self) -> broadcast::Receiver<FeedNews> {
        let receiver = {
            let _telling = self.telling();
            self.feed.subscribe()
        };
        self.interest.notify_waiters();
        receiver
    }

    /// Says that somebody waits for the checkpoint to move, until what is returned is dropped.
    pub(crate) fn begin_wait(&self) -> Waiting<'_> {
        self.waiters.fetch_add(1, Ordering::AcqRel);
        self.interest.notify_waiters();
        Waiting(self)
    }

    /// Whether somebody waits for the checkpoint to move.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiters.load(Ordering::Acquire) > 0
    }

    /// Whether anybody follows or waits.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_awaited() || self.feed.receiver_count() > 0
    }

    /// Resolves at the next beginning of a wait or a following.
    pub(crate) fn interest(&self) -> tokio::sync::futures::Notified<'_> {
        self.interest.notified()
    }

    fn telling(&self) -> MutexGuard<'_, FeedBytes> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node owns the projection now, whose status is this; or no longer.
    pub(crate) fn set_owned(&self, owned: bool) {
        self.known.send_modify(|known| known.owned = owned);
    }

    /// Nothing changes any more.
    pub(crate) fn set_closed(&self) {
        self.known.send_modify(|known| {
            known.closed = true;
            known.owned = false;
        });
    }

    /// The owner, this node, has read the status anew: after a claim, or because it does not know
    /// what became of a commit. Who follows has to read the store where that moved on.
    pub(crate) fn reread(&self, status: Status) {
        let _telling = self.telling();
        let before = self.known().reached();
        let reached =
            Reached { generation: status.active.generation, position: status.active.checkpoint };
        self.known.send_modify(|known| {
            known.status = status;
            known.moved_at = Instant::now();
        });
        if reached.generation != before.generation {
            self.tell(FeedNews::Swapped(reached));
        } else if reached.position != before.position {
            self.tell(FeedNews::Batch(Arc::new(nothing_through(reached))));
        }
    }

    /// A lane of this node has read where its generation stands, because it does not know what
    /// became of a commit.
    pub(crate) fn found(&self, found: &GenerationStatus) {
        let _telling = self.telling();
        let before = self.known().reached();
        self.known.send_modify(|known| {
            let status = &mut known.status;
            if status.active.generation == found.generation {
                status.active = found.clone();
                known.moved_at = Instant::now();
            } else if let Some(building) = status.building.as_mut()
                && building.generation == found.generation
            {
                *building = found.clone();
            }
        });
        let reached = self.known().reached();
        if reached.position != before.position {
            self.tell(FeedNews::Batch(Arc::new(nothing_through(reached))));
        }
    }

    /// The owner, this node, has read the status while its lanes run, who know better how far
    /// their generations have come.
    pub(crate) fn refreshed(&self, mut status: Status) {
        let _telling = self.telling();
        let mut news = None;
        self.known.send_modify(|known| {
            let before = known.reached();
            let known_of = |fresh: &mut GenerationStatus| {
                let known = [Some(&known.status.active), known.status.building.as_ref()];
                let same = known.into_iter().flatten().find(|k| k.generation == fresh.generation);
                if let Some(same) = same {
                    fresh.checkpoint = same.checkpoint;
                    fresh.parked = same.parked;
                }
            };
            known_of(&mut status.active);
            status.building.as_mut().map(known_of);
            known.status = status;
            let reached = known.reached();
            if reached.generation != before.generation {
                known.moved_at = Instant::now();
                news = Some(FeedNews::Swapped(reached));
            }
        });
        if let Some(news) = news {
            self.tell(news);
        }
    }

    /// A generation has come further by a commit of this node.
    pub(crate) fn committed(&self, batch: ChangeBatch, parked: u64) {
        let mut telling = self.telling();
        let mut active = false;
        self.known.send_modify(|known| {
            let status = &mut known.status;
            if status.active.generation == batch.generation {
                active = true;
                status.active.checkpoint = batch.position;
                status.active.parked += parked;
                known.moved_at = Instant::now();
            } else if let Some(building) = status.building.as_mut()
                && building.generation == batch.generation
            {
                building.checkpoint = batch.position;
                building.parked += parked;
            }
        });
        if active && self.feed.receiver_count() > 0 {
            let news = telling.admit(batch);
            self.tell(FeedNews::Batch(news));
        }
    }

    /// A follower has read changes after `from` of a generation that another node writes.
    pub(crate) fn followed(&self, from: Reached, batch: ChangeBatch) {
        let mut telling = self.telling();
        {
            let known = self.known();
            if known.owned || known.reached() != from {
                return;
            }
        }
        self.known.send_modify(|known| {
            known.status.active.checkpoint = batch.position;
            known.moved_at = Instant::now();
        });
        if self.feed.receiver_count() > 0 {
            let news = telling.admit(batch);
            self.tell(FeedNews::Batch(news));
        }
    }

    /// This node has made the generation that it built the active one.
    pub(crate) fn swapped(&self, generation: Generation) {
        let _telling = self.telling();
        let mut reached = None;
        self.known.send_modify(|known| {
            if let Some(building) = known.status.building.take_if(|b| b.generation == generation) {
                known.status.active = building;
                known.moved_at = Instant::now();
                reached = Some(known.reached());
            }
        });
        if let Some(reached) = reached {
            self.tell(FeedNews::Swapped(reached));
        }
    }

    /// A generation goes no further, or goes on.
    pub(crate) fn set_stopped(&self, generation: Generation, stopped: Option<Stopped>) {
        self.known.send_modify(|known| {
            let status = &mut known.status;
            if status.active.generation == generation {
                status.active.stopped = stopped;
            } else if let Some(building) = status.building.as_mut()
                && building.generation == generation
            {
                building.stopped = stopped;
            }
        });
    }

    /// The log went back: whatever was told may not be so any more.
    pub(crate) fn went_back(&self) {
        let _telling = self.telling();
        let reached = self.known().reached();
        self.tell(FeedNews::Swapped(reached));
    }

    /// The database's status was read; the reading began at `asked_at`.
    pub(crate) fn polled(&self, status: Status, asked_at: Instant) {
        let _telling = self.telling();
        let mut news = None;
        self.known.send_modify(|known| {
            if known.owned {
                // The runner knows better, but for what others ask of it.
                known.status.wish = status.wish;
                known.status.owner = status.owner;
                known.status.active.changes_from = status.active.changes_from;
                return;
            }
            let before = known.reached();
            let mut status = status;
            let active = &mut status.active;
            if active.generation != before.generation && asked_at <= known.moved_at {
                // From before a swap, maybe.
                return;
            }
            if active.generation == before.generation {
                let ahead = active.checkpoint > before.position;
                let told_later = ahead && self.feed.receiver_count() > 0;
                // A reading that began before the last move says nothing against it.
                let stale = active.checkpoint < before.position && asked_at <= known.moved_at;
                if told_later || stale {
                    active.checkpoint = before.position;
                    if told_later {
                        self.interest.notify_waiters();
                    }
                }
            } else {
                let reached =
                    Reached { generation: active.generation, position: active.checkpoint };
                news = Some(FeedNews::Swapped(reached));
            }
            if status.active.checkpoint != before.position || news.is_some() {
                known.moved_at = Instant::now();
            }
            known.status = status;
        });
        if let Some(news) = news {
            self.tell(news);
        }
    }

    /// Takes a look at the rebuild's pace.
    pub(crate) fn observe_pace(&self) {
        self.known.send_modify(|known| {
            let building = known.status.building.as_ref();
            known.pace.observe(building.map(|b| (b.generation, b.checkpoint)), Instant::now());
        });
    }

    /// When the first event was recorded that is yet to be projected.
    pub(crate) fn set_behind_since(&self, since: Option<Timestamp>) {
        self.known.send_if_modified(|known| {
            let changed = known.behind_since != since;
            known.behind_since = since;
            changed
        });
    }

    /// A wish was followed.
    pub(crate) fn wish_followed(&self, wish: Wish) {
        self.known.send_modify(|known| {
            known.status.wish.take_if(|open| *open == wish);
        });
    }

    fn tell(&self, news: FeedNews) {
        // Fails where nobody listens, which is no failure.
        let _ = self.feed.send(news);
    }

    /// How far behind the log it is, as of the last look.
    pub(crate) fn lag(&self, known: &Known, head: GlobalPosition) -> Lag {
        let events = head.distance_from(known.status.active.checkpoint);
        let age = if events == 0 { None } else { known.behind_since };
        Lag { events, age: age.map_or(Duration::ZERO, age_of) }
    }

    pub(crate) fn stats(&self) -> ProjectionStats {
        let known = self.known().clone();
        let head = self.end.borrow().position.max(known.status.active.checkpoint);
        let pace = known.pace.events_per_second();
        let lag = self.lag(&known, head);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let status = &known.status;
        ProjectionStats {
            name: self.name().clone(),
            generation: status.active.generation,
            checkpoint: status.active.checkpoint,
            head,
            lag,
            state: ProjectionState::of(status, self.definition.version),
            stopped: status.active.stopped.as_ref().map(|stopped| stopped.reason.as_str().into()),
            owned: known.owned,
            parked: status.active.parked,
            events_total: count(&self.counters.events),
            commits_total: count(&self.counters.commits),
            writes_total: count(&self.counters.writes),
            poison_total: count(&self.counters.poison),
            claims_total: count(&self.counters.claims),
            followers: self.feed.receiver_count(),
            rebuild: status.building.as_ref().map(|b| Progress::of(b, head, pace)),
        }
    }
}

/// The time from a moment until now.
pub(crate) fn age_of(at: Timestamp) -> Duration {
    let micros = Timestamp::now().as_micros().saturating_sub(at.as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// News that something changed through here, without saying what: whoever follows finds a hole.
fn nothing_through(reached: Reached) -> ChangeBatch {
    ChangeBatch {
        generation: reached.generation,
        after: reached.position,
        position: reached.position,
        changes: Vec::new(),
    }
}

/// Somebody waits for the checkpoint to move.
pub(crate) struct Waiting<'a>(&'a Hub);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::AcqRel);
    }
}
