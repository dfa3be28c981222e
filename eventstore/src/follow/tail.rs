//! [`LogTail`]: the whole log in order, from a position on, for ever.
//!
//! It also watches the log's epochs, because they decide what "in order" means: after a restore
//! the log may hold other events at positions that were handed on already. Whoever asks for
//! [`LogTail::news`] learns of that in the same order as of the events.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::broadcast::error::{RecvError, TryRecvError},
    time::{Instant, sleep_until},
};

use super::{
    epochs::diverging,
    sequencer::{Batch, Next, Sequencer},
};
use crate::{
    BoxFuture, Commit, CommitFeed, EventStore, GlobalPosition, LogEpoch, LogHead, Page, Read,
    ReadError, RecordedEvent, Removals, Target, plant::Plant,
};

/// How a [`LogTail`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TailConfig {
    /// How often the head is looked at, for what other processes commit (500 ms).
    pub head_poll: Duration,
    /// Events a page while catching up (1000).
    pub page_limit: usize,
    /// The first pause after a failed read; each further one is twice as long (50 ms).
    pub backoff_min: Duration,
    /// The longest pause after a failed read (2 s).
    pub backoff_max: Duration,
}

impl Default for TailConfig {
    fn default() -> Self {
        Self {
            head_poll: Duration::from_millis(500),
            page_limit: 1000,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
        }
    }
}

impl TailConfig {
    /// The defaults, with another interval between looks at the head.
    pub fn with_head_poll(head_poll: Duration) -> Self {
        Self { head_poll, ..Self::default() }
    }
}

/// What a [`LogTail`] has to tell.
#[derive(Debug, Clone)]
pub enum TailNews {
    /// The next events.
    Batch(TailBatch),
    /// The log's epochs are others than before.
    Epochs(TailEpochs),
    /// Events were removed since the tail last looked. Not in the order of the events: what was
    /// handed out may have been removed already.
    Removals(Removals),
}

/// The log's epochs have changed: a new one began, or another log stands in the old one's place.
#[derive(Debug, Clone)]
pub struct TailEpochs {
    /// All of them, oldest first.
    pub epochs: Arc<[LogEpoch]>,
    /// The tail goes on after this position. Lower than the last one that was handed out where
    /// the log was rewound: then what was handed out beyond it is not what the log holds.
    pub after: GlobalPosition,
}

/// Consecutive events of the log, never empty.
#[derive(Debug, Clone)]
pub struct TailBatch {
    /// The events. The first one's position follows the last one of the batch before, or the
    /// position to which the log was rewound meanwhile.
    pub events: Arc<[RecordedEvent]>,
    /// When they were known to be durable; only for what this process committed and the tail
    /// got live.
    pub committed_at: Option<std::time::Instant>,
}

/// The whole log in order, each event once: reads what is recorded, then follows live.
///
/// While the database is away it waits and tries again. What other processes commit is seen
/// within [`TailConfig::head_poll`], sooner where the store has notices of it; new epochs are seen
/// within that time, too. Where the log was rewound the tail goes on with the events that the log
/// has now, from the first position at which they may differ.
pub struct LogTail {
    store: Arc<dyn EventStore>,
    /// None once the store has closed.
    feed: Option<CommitFeed>,
    sequencer: Sequencer,
    config: TailConfig,
    /// The log's epochs as far as was looked; none before the first look.
    epochs: Option<Arc<[LogEpoch]>>,
    /// Epochs that nobody was told of yet.
    changed: Option<TailEpochs>,
    /// What was removed, as far as was looked; none before the first look.
    removals: Option<Removals>,
    /// Whether nobody was told of it yet.
    removed: bool,
    /// When the epochs changed. What was committed before may be of a life of the log that is
    /// over; what is not is read from the store.
    changed_at: Option<std::time::Instant>,
    /// Kept across calls, so that dropping the future of [`Self::next`] wastes no read.
    asked: Option<Asked>,
    /// When the head is due to be looked at.
    head_due: Instant,
    /// After a failure: no question before this moment, and how long the next pause is.
    pause: Option<(Instant, Duration)>,
}

/// A question to the store that has no answer yet.
enum Asked {
    Page(BoxFuture<'static, Result<Page, ReadError>>),
    Head(BoxFuture<'static, Result<LogHead, ReadError>>),
}

/// The store's answer.
enum Answer {
    Page(Page),
    Head(LogHead),
}

impl LogTail {
    /// A tail of `store` that begins with the event after `after`. Commits from now on are not
    /// missed, though nothing is read before [`Self::next`] is called. Epochs that began before
    /// its first look at the log count as known.
    pub fn new(store: Arc<dyn EventStore>, after: GlobalPosition, config: TailConfig) -> Self {
        Self::knowing(store, after, None, config)
    }

    /// A tail of `store` that begins after `head`, as [`EventStore::head`] gave it, and knows its
    /// epochs: one that began since is told of.
    pub fn after_head(store: Arc<dyn EventStore>, head: LogHead, config: TailConfig) -> Self {
        let mut tail = Self::knowing(store, head.position, Some(head.epochs), config);
        tail.removals = Some(head.removals);
        tail
    }

    /// A tail that begins after `after`, a position learnt while the log had `epochs`.
    pub(super) fn knowing(
        store: Arc<dyn EventStore>,
        after: GlobalPosition,
        epochs: Option<Arc<[LogEpoch]>>,
        config: TailConfig,
    ) -> Self {
        let feed = Some(store.commits());
        Self {
            store,
            feed,
            sequencer: Sequencer::new(after),
            config,
            epochs,
            changed: None,
            removals: None,
            removed: false,
            changed_at: None,
            asked: None,
            head_due: Instant::now(),
            pause: None,
        }
    }

    /// The last position that was handed out, or to which the log was rewound since.
    pub fn position(&self) -> GlobalPosition {
        self.sequencer.last()
    }

    /// The next events, as soon as there are any. After a rewind they are those that the log has
    /// now: their positions go back. For those who need not know; others ask for [`Self::news`].
    ///
    /// Cancel-safe: when the future is dropped before it is ready, nothing is lost. Needs a tokio
    /// runtime with time, and may be called from any.
    pub async fn next(&mut self) -> TailBatch {
        loop {
            if let TailNews::Batch(batch) = self.news().await {
                return batch;
            }
        }
    }

    /// The next news, as soon as there are any. As cancel-safe as [`Self::next`].
    pub async fn news(&mut self) -> TailNews {
        loop {
            self.take_news();
            self.look().await;
            if let Some(epochs) = self.changed.take() {
                return TailNews::Epochs(epochs);
            }
            if std::mem::take(&mut self.removed)
                && let Some(removals) = self.removals
            {
                return TailNews::Removals(removals);
            }
            match self.sequencer.next() {
                Next::Emit(Batch { events, committed_at }) => {
                    // However much there is to hand out, the epochs are looked at.
                    self.ask_head();
                    return TailNews::Batch(TailBatch { events, committed_at });
                }
                Next::Read { after, until } => {
                    self.ask_head();
                    self.ask_page(after, until);
                }
                Next::Wait => self.ask_head(),
            }
            self.wait().await;
        }
    }

    /// Takes in the news that have arrived.
    fn take_news(&mut self) {
        while let Some(feed) = &mut self.feed {
            match feed.try_recv() {
                Ok(commit) => self.take(commit),
                // What was missed shows as a hole before the next batch, or at the next look.
                Err(TryRecvError::Lagged(_)) => self.head_due = Instant::now(),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => self.feed = None,
            }
        }
    }

    fn take(&mut self, commit: Commit) {
        match commit {
            Commit::Batch { committed_at, .. } if self.changed_at >= Some(committed_at) => {}
            Commit::Batch { events, committed_at } => {
                self.sequencer.batch(Batch { events, committed_at: Some(committed_at) });
            }
            Commit::Head(head) => self.sequencer.head(head),
        }
    }

    /// Takes the store's answer in if it is there, and does not wait for it.
    async fn look(&mut self) {
        tokio::select! {
            biased;
            answer = answered(&mut self.asked) => {
                self.asked = None;
                self.take_answer(answer);
            }
            () = std::future::ready(()) => {}
        }
    }

    fn paused(&self) -> bool {
        self.pause.is_some_and(|(until, _)| Instant::now() < until)
    }

    fn ask_page(&mut self, after: GlobalPosition, until: GlobalPosition) {
        if self.asked.is_some() || self.paused() {
            self.sequencer.unanswered();
            return;
        }
        let mut read = Read::after(Target::All, after, self.config.page_limit);
        read.until = Some(until);
        let store = Arc::clone(&self.store);
        self.asked = Some(Asked::Page(Box::pin(async move { store.read(read).await })));
    }

    fn ask_head(&mut self) {
        if self.asked.is_some() || self.paused() || Instant::now() < self.head_due {
            return;
        }
        let store = Arc::clone(&self.store);
        self.asked = Some(Asked::Head(Box::pin(async move { store.head().await })));
    }

    /// Waits for news, for the store's answer, or until it may be asked (again).
    async fn wait(&mut self) {
        let wake_at = match self.pause {
            Some((until, _)) if until > Instant::now() => until,
            _ => self.head_due,
        };
        let asking = self.asked.is_some();
        tokio::select! {
            news = receive(&mut self.feed) => match news {
                Ok(commit) => self.take(commit),
                Err(RecvError::Lagged(_)) => self.head_due = Instant::now(),
                Err(RecvError::Closed) => self.feed = None,
            },
            answer = answered(&mut self.asked) => {
                self.asked = None;
                self.take_answer(answer);
            }
            () = sleep_until(wake_at), if !asking => {}
        }
    }

    fn take_answer(&mut self, answer: Result<Answer, ReadError>) {
        match answer {
            Ok(Answer::Page(page)) => {
                self.pause = None;
                self.sequencer.page(page);
            }
            Ok(Answer::Head(head)) => {
                self.pause = None;
                self.sequencer.head(head.position);
                let planted = Plant::NoHeadPoll.is_active();
                let pause =
                    if planted { Duration::from_secs(86_400) } else { self.config.head_poll };
                self.head_due = Instant::now() + pause;
                self.compare(head);
            }
            Err(error) => {
                self.sequencer.unanswered();
                let pause = self.pause.map_or(self.config.backoff_min, |(_, pause)| pause);
                tracing::warn!(%error, after = self.position().get(), "cannot read the log");
                let next = (pause * 2).min(self.config.backoff_max);
                self.pause = Some((Instant::now() + pause, next));
            }
        }
    }
}

impl LogTail {
    /// Begins anew where the log's epochs say that it may differ from what was handed out.
    fn compare(&mut self, LogHead { position, epochs, removals }: LogHead) {
        let known = self.removals.replace(removals);
        self.removed |= known.is_some_and(|known| known != removals);
        let Some(known) = self.epochs.replace(Arc::clone(&epochs)) else { return };
        let Some(first) = diverging(&known, &epochs) else { return };
        let after = self.position().min(first.previous());
        // News that wait, and what was read ahead of them, may be of the life that is over. What
        // of them is not shows at another look, which comes at once.
        self.sequencer = Sequencer::new(after);
        self.sequencer.head(position);
        self.changed_at = Some(std::time::Instant::now());
        self.head_due = Instant::now();
        self.changed = Some(TailEpochs { epochs, after });
    }
}

impl std::fmt::Debug for LogTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogTail").field("sequencer", &self.sequencer).finish_non_exhaustive()
    }
}

/// The next news; never, once there is no feed.
async fn receive(feed: &mut Option<CommitFeed>) -> Result<Commit, RecvError> {
    match feed {
        Some(feed) => feed.recv().await,
        None => std::future::pending().await,
    }
}

/// The store's answer; never, where nothing was asked.
async fn answered(asked: &mut Option<Asked>) -> Result<Answer, ReadError> {
    match asked {
        Some(Asked::Page(answer)) => answer.await.map(Answer::Page),
        Some(Asked::Head(answer)) => answer.await.map(Answer::Head),
        None => std::future::pending().await,
    }
}
