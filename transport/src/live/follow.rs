//! Following projections for a process's workers: each that has live queries of a projection is
//! given each of its batches once.
//!
//! A worker whose mailbox is full misses a batch. Then it is told from where it will hear
//! everything again, as soon as it has room, and its queries read the store.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use actix::{Addr, dev::SendError};
use tidewire_eventstore::{DocumentKey, ProjectionName};
use tidewire_projections::{Before, ChangeBatch, Content, DocumentChange, FeedNews, Watched};
use tidewire_protocol::query::Reached;
use tokio::{
    runtime::Handle,
    sync::{Notify, broadcast::error::RecvError},
    task::AbortHandle,
    time::sleep,
};

use super::{LiveMetrics, hub::LiveNews};
use crate::dispatcher::{Dispatcher, LiveTold};

/// How soon workers with full mailboxes are tried again.
const RETRY: Duration = Duration::from_millis(20);

/// What is kept of documents that another node writes, in bytes, so that it is known what they
/// were before their next change.
const SEEN_BYTES_MAX: usize = 16 << 20;

/// The projections that are followed.
pub(super) struct Followers {
    runtime: Handle,
    metrics: Arc<LiveMetrics>,
    following: Mutex<HashMap<ProjectionName, Following>>,
}

struct Following {
    workers: Arc<Workers>,
    task: AbortHandle,
}

/// The workers that follow one projection.
#[derive(Default)]
struct Workers {
    all: Mutex<Vec<Worker>>,
    /// Somebody has come.
    changed: Notify,
}

struct Worker {
    dispatcher: Addr<Dispatcher>,
    /// What it has to be told before anything else.
    missed: Option<Missed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missed {
    /// From where it is told everything.
    From,
    /// That everything is to be read anew.
    Swap,
}

impl Followers {
    pub(super) fn new(runtime: Handle, metrics: Arc<LiveMetrics>) -> Self {
        Self { runtime, metrics, following: Mutex::default() }
    }

    /// Tells a worker what becomes of a projection from now on.
    pub(super) fn join(&self, watched: &Watched, dispatcher: Addr<Dispatcher>) {
        let name = &watched.definition().name;
        let mut following = self.following();
        let following = following.entry(name.clone()).or_insert_with(|| {
            let workers = Arc::<Workers>::default();
            let follow = follow(watched.clone(), workers.clone(), self.metrics.clone());
            Following { workers, task: self.runtime.spawn(follow).abort_handle() }
        });
        following.workers.all().push(Worker { dispatcher, missed: Some(Missed::From) });
        following.workers.changed.notify_one();
    }

    /// Tells a worker nothing more. Nobody follows what no worker does.
    pub(super) fn leave(&self, name: &ProjectionName, dispatcher: &Addr<Dispatcher>) {
        let mut following = self.following();
        let Some(of) = following.get(name) else { return };
        let mut workers = of.workers.all();
        if let Some(at) = workers.iter().position(|worker| worker.dispatcher == *dispatcher) {
            workers.swap_remove(at);
        }
        if workers.is_empty() {
            drop(workers);
            of.task.abort();
            following.remove(name);
        }
    }

    fn following(&self) -> MutexGuard<'_, HashMap<ProjectionName, Following>> {
        self.following.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        for following in self.following().values() {
            following.task.abort();
        }
    }
}

impl Workers {
    fn all(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who is up to date; whoever has no room has missed it.
    fn tell(&self, name: &ProjectionName, news: &LiveNews, metrics: &LiveMetrics) {
        self.all().retain_mut(|worker| {
            let swaps = matches!(news, LiveNews::Swapped(_));
            if let Some(missed) = &mut worker.missed {
                if swaps {
                    *missed = Missed::Swap;
                }
                return true;
            }
            let told = LiveTold { projection: name.clone(), news: news.clone() };
            match worker.dispatcher.try_send(told) {
                Ok(()) => true,
                Err(SendError::Full(_)) => {
                    metrics.refused.fetch_add(1, Relaxed);
                    worker.missed = Some(if swaps { Missed::Swap } else { Missed::From });
                    true
                }
                Err(SendError::Closed(_)) => false,
            }
        });
    }

    /// Tells those who missed something from where they are told everything. Whether somebody has
    /// no room still.
    fn make_up(&self, name: &ProjectionName, reached: Reached) -> bool {
        let mut full = false;
        self.all().retain_mut(|worker| {
            let news = match worker.missed {
                None => return true,
                Some(Missed::From) => LiveNews::From(reached),
                Some(Missed::Swap) => LiveNews::Swapped(reached),
            };
            match worker.dispatcher.try_send(LiveTold { projection: name.clone(), news }) {
                Ok(()) => worker.missed = None,
                Err(SendError::Full(_)) => full = true,
                Err(SendError::Closed(_)) => return false,
            }
            true
        });
        full
    }
}

/// Follows a projection for the workers, until it is aborted or the node closes.
async fn follow(watched: Watched, workers: Arc<Workers>, metrics: Arc<LiveMetrics>) {
    let name = watched.definition().name.clone();
    let mut feed = watched.follow();
    let mut reached = watched.reached();
    let mut seen = Seen::new(SEEN_BYTES_MAX);
    loop {
        let full = workers.make_up(&name, reached);
        let news = tokio::select! {
            news = feed.recv() => match news {
                Ok(FeedNews::Batch(batch)) => {
                    let batch = seen.complete(batch, reached);
                    reached = Reached { generation: batch.generation, position: batch.position };
                    LiveNews::Batch(batch)
                }
                Ok(FeedNews::Swapped(swapped)) => {
                    seen.clear();
                    reached = swapped;
                    LiveNews::Swapped(swapped)
                }
                // The next batch leaves a hole, and says so.
                Err(RecvError::Lagged(_)) => {
                    seen.clear();
                    continue;
                }
                Err(RecvError::Closed) => return,
            },
            () = workers.changed.notified() => continue,
            () = sleep(RETRY), if full => continue,
        };
        workers.tell(&name, &news, &metrics);
    }
}

/// The documents that were changed last, as they are, where batches do not say what they were
/// before. So a change of a document that was seen before concerns only the queries that it
/// concerns, and not all that might have had it.
struct Seen {
    documents: HashMap<DocumentKey, Option<Content>>,
    /// As they were seen, some more than once.
    order: VecDeque<(DocumentKey, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl Seen {
    fn new(bytes_max: usize) -> Self {
        Self { documents: HashMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    fn clear(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    /// The batch with what is known of what its documents were, `reached` being where the last one
    /// led.
    fn complete(&mut self, batch: Arc<ChangeBatch>, reached: Reached) -> Arc<ChangeBatch> {
        if batch.generation != reached.generation || batch.after != reached.position {
            self.clear();
        }
        let unknown = |change: &DocumentChange| matches!(change.before, Before::Unknown);
        if !batch.changes.iter().any(unknown) {
            // Its writer is on this node, and remembers more.
            self.clear();
            return batch;
        }
        let complete = |change: &DocumentChange| {
            let before = match (&change.before, self.documents.get(&change.key)) {
                (Before::Document(before), _) => Before::Document(before.clone()),
                (Before::Absent, _) | (Before::Unknown, Some(None)) => Before::Absent,
                (Before::Unknown, Some(Some(before))) => Before::Document(before.clone()),
                (Before::Unknown, None) => Before::Unknown,
            };
            DocumentChange { key: change.key.clone(), before, after: change.after.clone() }
        };
        let changes: Vec<_> = batch.changes.iter().map(complete).collect();
        for change in &changes {
            self.see(&change.key, change.after.clone());
        }
        let (generation, after, position) = (batch.generation, batch.after, batch.position);
        Arc::new(ChangeBatch { generation, after, position, changes })
    }

    fn see(&mut self, key: &DocumentKey, content: Option<Content>) {
        let length = content.as_ref().map_or(0, |content| content.text().len());
        let bytes = 2 * key.as_str().len() + length + size_of::<DocumentChange>();
        self.documents.insert(key.clone(), content);
        self.order.push_back((key.clone(), bytes));
        self.bytes += bytes;
        while self.bytes > self.bytes_max
            && let Some((oldest, bytes)) = self.order.pop_front()
        {
            self.bytes -= bytes;
            // Seen again since, perhaps; then it is forgotten early, which does no harm.
            self.documents.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidewire_eventstore::{Generation, GlobalPosition};

    use super::*;

    fn reached(position: u64) -> Reached {
        Reached { generation: Generation::new(1), position: GlobalPosition::new(position) }
    }

    fn batch(after: u64, key: &str, text: Option<&'static str>) -> Arc<ChangeBatch> {
        let after_content = text.map(|text| Content::new(Bytes::from_static(text.as_bytes())));
        let key = DocumentKey::new(key).expect("a good key");
        Arc::new(ChangeBatch {
            generation: Generation::new(1),
            after: GlobalPosition::new(after),
            position: GlobalPosition::new(after + 1),
            changes: vec![DocumentChange { key, before: Before::Unknown, after: after_content }],
        })
    }

    fn before(batch: &ChangeBatch) -> String {
        match &batch.changes[0].before {
            Before::Unknown => "unknown".to_owned(),
            Before::Absent => "absent".to_owned(),
            Before::Document(content) => String::from_utf8_lossy(content.text()).into_owned(),
        }
    }

    #[test]
    fn a_document_that_was_seen_is_known_until_something_is_missed() {
        let mut seen = Seen::new(SEEN_BYTES_MAX);
        assert_eq!(before(&seen.complete(batch(0, "a", Some("{}")), reached(0))), "unknown");
        assert_eq!(before(&seen.complete(batch(1, "a", None), reached(1))), "{}");
        assert_eq!(before(&seen.complete(batch(2, "a", Some("[]")), reached(2))), "absent");
        assert_eq!(before(&seen.complete(batch(5, "a", None), reached(3))), "unknown");
    }

    #[test]
    fn what_is_kept_of_documents_is_bounded() {
        let mut seen = Seen::new(1000);
        for number in 0..1000 {
            let key = format!("{number}");
            seen.complete(batch(number, &key, Some("{}")), reached(number));
            assert!(seen.bytes <= 1000 && seen.documents.len() <= seen.order.len());
        }
    }
}
