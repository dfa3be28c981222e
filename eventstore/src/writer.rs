//! The writer: one task a process that commits queued appends and commands in groups.
//!
//! It drains the queue into groups, hands each to its [`Backend`], answers the requests and
//! publishes the recorded events — both only after durability is known. What it promises:
//!
//! - Groups are committed one after the other, requests in the order in which they were queued.
//! - A group that fails on its data is halved and tried again until the requests at fault stand
//!   alone: one request never fails another's.
//! - When the answer to a COMMIT is lost, the backend finds out what became of it before anybody
//!   is told anything. Nothing overtakes the group in doubt.
//! - While the database is away each request waits at most [`Limits::away_wait`], then fails as
//!   [`AppendError::Unavailable`], unrecorded; the writer reconnects with backoff until closed.

use std::{
    collections::VecDeque,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use tokio::{
    sync::{broadcast, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Append, AppendError, Commit, CommitFeed, Execution, GlobalPosition, Limits, PendingAppend,
    PendingExecution, StoreStats, admission,
    plan::{Plan, Request},
    queue::{Answer, AnswerTo, Group, Queue},
    stats::WriterStats,
};

/// The first pause before a reconnection is tried again; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest pause between two reconnections.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A database, as the writer needs it. One task owns it and calls one method at a time.
///
/// Every method has to end within a bounded time even when the database never answers: the
/// backend sets its own time-outs. The writer may drop the future of [`Self::reconnect`], and no
/// other.
pub(crate) trait Backend: Send + 'static {
    /// Plans `group` on the log's present state (see [`crate::plan`]), inserts the rows in one
    /// transaction, and returns the plan once that is durable. A plan without rows needs no
    /// transaction.
    fn commit(
        &mut self,
        group: &[Request],
    ) -> impl Future<Output = Result<Plan, CommitError>> + Send;

    /// Whether `plan`, whose COMMIT got no answer, was recorded: connects anew where needed,
    /// takes the append lock (so that the old backend is surely done) and looks for the plan's
    /// first event by position and id, or, where it has no events, for its first command by the
    /// execution's own id: another's may stand under the same key. Either all of a plan is
    /// recorded or nothing.
    fn resolve(&mut self, plan: &Plan) -> impl Future<Output = Result<bool, Away>> + Send;

    /// Makes sure that there is a working connection, replacing one that is broken.
    fn reconnect(&mut self) -> impl Future<Output = Result<(), Away>> + Send;

    /// Closes the connection. Nothing is called afterwards.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// Why a group was not committed, as far as the backend knows.
#[derive(Debug)]
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "memory cannot fail")
)]
pub(crate) enum CommitError {
    /// The database refused the rows; nothing was recorded, the connection is good. The reason
    /// names the database's code and text.
    Refused(String),
    /// The connection broke, or the database would not let us write for now, before a COMMIT was
    /// sent: nothing was recorded.
    Away(Away),
    /// A COMMIT was sent and its answer was lost: nobody knows yet.
    Unknown(Box<Plan>),
}

/// The database cannot be used just now. The reason is for the operator's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Away(pub(crate) String);

impl From<Away> for CommitError {
    fn from(away: Away) -> Self {
        Self::Away(away)
    }
}

/// The handle of a writer: queues appends and hands out the commit feed.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// Ends with the task, which owns the sender.
    running: watch::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    queue: Queue,
    feed: broadcast::Sender<Commit>,
    stats: WriterStats,
}

impl Writer {
    /// Starts the writer's task on the current tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(crate) fn start(backend: impl Backend, limits: Limits) -> Self {
        let shared = Arc::new(Shared {
            queue: Queue::new(&limits),
            feed: broadcast::Sender::new(limits.feed_commits_max.max(1)),
            stats: WriterStats::default(),
            limits,
        });
        let (until_end, running) = watch::channel(());
        let task = Task {
            shared: Arc::clone(&shared),
            backend,
            parts: VecDeque::new(),
            #[cfg(feature = "plant")]
            early: Default::default(),
            _until_end: until_end,
        };
        tokio::spawn(task.run());
        Self { shared, running }
    }

    /// Checks `append` against the limits and queues it. Never waits.
    ///
    /// # Errors
    ///
    /// What [`crate::EventStore::append`] tells at once.
    pub(crate) fn append(&self, append: Append) -> Result<PendingAppend, AppendError> {
        let request = admission::admit(append, &self.shared.limits)?;
        let (to, answer) = oneshot::channel();
        self.push(request, AnswerTo::Append(to))?;
        Ok(PendingAppend::new(answer))
    }

    /// Checks `execution` against the limits and queues it. Never waits.
    ///
    /// # Errors
    ///
    /// What [`crate::EventStore::execute`] tells at once.
    pub(crate) fn execute(&self, execution: Execution) -> Result<PendingExecution, AppendError> {
        let request = admission::admit_execution(execution, &self.shared.limits)?;
        let (to, answer) = oneshot::channel();
        self.push(request, AnswerTo::Execution(to))?;
        Ok(PendingExecution::new(answer))
    }

    fn push(&self, request: Request, to: AnswerTo) -> Result<(), AppendError> {
        let queued = self.shared.queue.push(request, Answer { to, queued_at: Instant::now() });
        if queued == Err(AppendError::Overloaded) {
            self.shared.stats.overloaded();
        }
        queued
    }

    /// A new receiver of the commit feed.
    pub(crate) fn commits(&self) -> CommitFeed {
        self.shared.feed.subscribe()
    }

    /// Tells the feed that somebody, perhaps in another process, committed up to `head`.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "for stores with listeners"))]
    pub(crate) fn hint(&self, head: GlobalPosition) {
        // Without receivers there is nobody to tell.
        let _ = self.shared.feed.send(Commit::Head(head));
    }

    /// What the writer has done so far.
    pub(crate) fn stats(&self) -> StoreStats {
        let depth = self.shared.queue.depth();
        self.shared.stats.snapshot(depth.requests, depth.bytes)
    }

    /// Refuses further appends, lets the writer finish what is queued, and closes its database.
    /// Idempotent; every caller returns after the writer has ended.
    pub(crate) async fn close(&self) {
        self.shared.queue.close();
        let mut running = self.running.clone();
        // Nothing is ever sent: the wait ends when the sender is gone.
        while running.changed().await.is_ok() {}
    }
}

impl Drop for Writer {
    /// A store dropped without `close` stops taking appends; its task ends by itself.
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// What the task owns.
struct Task<B> {
    shared: Arc<Shared>,
    backend: B,
    /// Groups taken from the queue and not answered yet, oldest first. More than one only while
    /// a group that failed on its data is being halved.
    parts: VecDeque<Group>,
    #[cfg(feature = "plant")]
    early: crate::early_answers::EarlyAnswers,
    _until_end: watch::Sender<()>,
}

impl<B> Drop for Task<B> {
    /// However the task ends, nobody goes on waiting for it: a dropped answer says that the
    /// store is closing.
    fn drop(&mut self) {
        self.shared.queue.close();
        drop(self.shared.queue.expire(Instant::now()));
    }
}

impl<B: Backend> Task<B> {
    async fn run(mut self) {
        loop {
            let group = match self.parts.pop_front() {
                Some(group) => group,
                None => match self.shared.queue.next_group(&self.shared.limits).await {
                    Some(group) => group,
                    None => break,
                },
            };
            self.commit(group).await;
        }
        self.backend.close().await;
    }

    async fn commit(&mut self, mut group: Group) {
        #[cfg(feature = "plant")]
        self.early.answer(&mut group).await;
        match self.backend.commit(&group.requests).await {
            Ok(plan) => self.settle(group, plan),
            Err(CommitError::Refused(reason)) => {
                if group.requests.len() > 1 {
                    let (older, newer) = group.split();
                    self.parts.push_front(newer);
                    self.parts.push_front(older);
                } else if let Some(answer) = group.answers.pop() {
                    tracing::warn!(%reason, "append refused by the database");
                    answer.tell(Err(AppendError::Refused { reason }));
                }
            }
            Err(CommitError::Away(away)) => {
                self.parts.push_front(group);
                self.wait_for_database(&away).await;
            }
            Err(CommitError::Unknown(plan)) => self.find_out(group, *plan).await,
        }
    }

    /// The plan is durable: publishes its events, then answers its requests.
    fn settle(&self, group: Group, plan: Plan) {
        let now = Instant::now();
        #[cfg(feature = "plant")]
        self.early.learn(&plan);
        let events = plan.events.len();
        if events > 0 {
            let batch =
                Commit::Batch { events: plan.events.into(), committed_at: StdInstant::now() };
            // Without receivers there is nobody to tell.
            let _ = self.shared.feed.send(batch);
            self.shared.stats.committed(events);
        }
        for (answer, outcome) in group.answers.into_iter().zip(plan.outcomes) {
            self.shared.stats.answered(now.saturating_duration_since(answer.queued_at));
            answer.tell(outcome);
        }
    }

    /// Finds out whether a commit in doubt took place. Others expire meanwhile; this group's
    /// requests do not, for nobody could say whether they were recorded.
    async fn find_out(&mut self, group: Group, plan: Plan) {
        tracing::warn!(events = plan.events.len(), "lost the answer to a commit; finding out");
        let mut backoff = Backoff::default();
        let mut given_up_at = None;
        loop {
            match self.backend.resolve(&plan).await {
                Ok(true) => return self.settle(group, plan),
                Ok(false) => {
                    // Nothing was recorded, so from here on the group waits like any other.
                    self.parts.push_front(group);
                    sleep(backoff.next()).await;
                    return self.expire();
                }
                Err(away) => tracing::warn!(reason = %away.0, "commit still in doubt"),
            }
            self.expire();
            if self.shared.queue.is_closed() {
                let wait = self.shared.limits.away_wait;
                let limit = *given_up_at.get_or_insert_with(|| Instant::now() + wait);
                if Instant::now() >= limit {
                    for answer in group.answers {
                        answer.tell(Err(AppendError::Unknown));
                    }
                    return;
                }
            }
            sleep(backoff.next()).await;
        }
    }

    /// Returns when the database is back, or when nobody waits for it any more. Meanwhile
    /// requests expire, those at hand as well as those queued.
    async fn wait_for_database(&mut self, away: &Away) {
        tracing::warn!(reason = %away.0, "the log's database is away; appends wait");
        let Self { shared, backend, parts, .. } = self;
        let reconnected = async {
            let mut backoff = Backoff::default();
            loop {
                sleep(backoff.next()).await;
                match backend.reconnect().await {
                    Ok(()) => break,
                    Err(away) => tracing::debug!(reason = %away.0, "could not reconnect"),
                }
            }
        };
        let mut reconnected = pin!(reconnected);
        loop {
            if shared.queue.is_closed() {
                // Nobody may wait for a store that closes while its database is away.
                fail_queued_before(parts, &shared.queue, Instant::now());
                return;
            }
            let back = tokio::select! {
                () = &mut reconnected => true,
                () = shared.next_expiry(parts) => false,
            };
            shared.expire(parts);
            if back {
                break;
            }
        }
        tracing::info!("the log's database is back");
    }

    fn expire(&mut self) {
        self.shared.expire(&mut self.parts);
    }
}

impl Shared {
    /// Fails whatever has waited for [`Limits::away_wait`].
    fn expire(&self, parts: &mut VecDeque<Group>) {
        if let Some(moment) = Instant::now().checked_sub(self.limits.away_wait) {
            fail_queued_before(parts, &self.queue, moment);
        }
    }

    /// Waits until the oldest request expires, at most as long as a freshly queued one would,
    /// and never longer than it takes to notice that the store closes.
    async fn next_expiry(&self, parts: &VecDeque<Group>) {
        let now = Instant::now();
        let oldest = parts
            .iter()
            .filter_map(|part| part.answers.first())
            .map(|answer| answer.queued_at)
            .chain(self.queue.oldest())
            .min()
            .unwrap_or(now);
        let expiry = oldest + self.limits.away_wait;
        sleep_until(expiry.min(now + BACKOFF_MIN)).await;
    }
}

/// Fails what was queued at or before `moment`, as unrecorded.
fn fail_queued_before(parts: &mut VecDeque<Group>, queue: &Queue, moment: Instant) {
    for part in parts.iter_mut() {
        let expired = part.answers.partition_point(|answer| answer.queued_at <= moment);
        part.requests.drain(..expired);
        for answer in part.answers.drain(..expired) {
            answer.tell(Err(AppendError::Unavailable));
        }
    }
    parts.retain(|part| !part.requests.is_empty());
    for answer in queue.expire(moment) {
        answer.tell(Err(AppendError::Unavailable));
    }
}

/// Growing pauses between attempts.
#[derive(Default)]
struct Backoff(Option<Duration>);

impl Backoff {
    fn next(&mut self) -> Duration {
        let pause = self.0.map_or(BACKOFF_MIN, |last| (last * 2).min(BACKOFF_MAX));
        self.0 = Some(pause);
        pause
    }
}
