//! [`LogTail`]: the whole log in order, from a position on, for ever.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::broadcast::error::{RecvError, TryRecvError},
    time::{Instant, sleep_until},
};

use super::sequencer::{Batch, Next, Sequencer};
use crate::{
    BoxFuture, Commit, CommitFeed, EventStore, GlobalPosition, LogHead, Page, Read, ReadError,
    RecordedEvent, Target,
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

/// Consecutive events of the log, never empty.
#[derive(Debug, Clone)]
pub struct TailBatch {
    /// The events. The first one's position follows the last one of the batch before.
    pub events: Arc<[RecordedEvent]>,
    /// When they were known to be durable; only for what this process committed and the tail
    /// got live.
    pub committed_at: Option<std::time::Instant>,
}

/// The whole log in order, each event once: reads what is recorded, then follows live.
///
/// While the database is away it waits and tries again. What other processes commit is seen
/// within [`TailConfig::head_poll`], sooner where the store has notices of it.
pub struct LogTail {
    store: Arc<dyn EventStore>,
    /// None once the store has closed.
    feed: Option<CommitFeed>,
    sequencer: Sequencer,
    config: TailConfig,
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
    /// missed, though nothing is read before [`Self::next`] is called.
    pub fn new(store: Arc<dyn EventStore>, after: GlobalPosition, config: TailConfig) -> Self {
        let feed = Some(store.commits());
        Self {
            store,
            feed,
            sequencer: Sequencer::new(after),
            config,
            asked: None,
            head_due: Instant::now(),
            pause: None,
        }
    }

    /// The last position that was handed out.
    pub fn position(&self) -> GlobalPosition {
        self.sequencer.last()
    }

    /// The next events, as soon as there are any.
    ///
    /// Cancel-safe: when the future is dropped before it is ready, nothing is lost. Needs a tokio
    /// runtime with time, and may be called from any.
    pub async fn next(&mut self) -> TailBatch {
        loop {
            self.take_news();
            match self.sequencer.next() {
                Next::Emit(Batch { events, committed_at }) => {
                    return TailBatch { events, committed_at };
                }
                Next::Read { after, until } => self.ask_page(after, until),
                Next::Wait => self.ask_head(),
            }
            self.wait().await;
        }
    }

    /// Takes in the news that have arrived.
    fn take_news(&mut self) {
        while let Some(feed) = &mut self.feed {
            match feed.try_recv() {
                Ok(commit) => take(&mut self.sequencer, commit),
                // What was missed shows as a hole before the next batch, or at the next look.
                Err(TryRecvError::Lagged(_)) => self.head_due = Instant::now(),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => self.feed = None,
            }
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
                Ok(commit) => take(&mut self.sequencer, commit),
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
                self.head_due = Instant::now() + self.config.head_poll;
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

impl std::fmt::Debug for LogTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogTail").field("sequencer", &self.sequencer).finish_non_exhaustive()
    }
}

fn take(sequencer: &mut Sequencer, commit: Commit) {
    match commit {
        Commit::Batch { events, committed_at } => {
            sequencer.batch(Batch { events, committed_at: Some(committed_at) });
        }
        Commit::Head(head) => sequencer.head(head),
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
