//! Removing events through this node: one removal at a time, some waiting; and by itself, what the
//! configured policies say.
//!
//! A removal is answered when nothing of what it took is kept in this process any more, so that no
//! reader who comes after the answer is given it. Other nodes throw away what they keep when the
//! notice of the erasure reaches them, or when they next look at the log's head.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de};
use tidewire_eventstore::{Category, ReadError, Removal, Removals, RemoveError, Removed};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use crate::{broadcaster::RemovedHere, dispatcher::Looked, node::Node};

/// Removals that may wait for the one under way; one more is refused as overloaded.
const WAITING_MAX: usize = 16;

/// How long a removal waits for this node's own workers.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// Between looks at them.
const SETTLE_POLL: Duration = Duration::from_millis(2);

/// What the node removes by itself from one category: `category`, and `max_age_days` or `max_bytes`
/// or both.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RetentionPolicy {
    /// The category.
    #[serde(deserialize_with = "category")]
    pub category: Category,
    /// Events older than this go, in days; fractions are allowed.
    #[serde(default, rename = "max_age_days", deserialize_with = "days")]
    pub max_age: Option<Duration>,
    /// The oldest events go that do not fit into so many bytes of payload and metadata.
    #[serde(default)]
    pub max_bytes: Option<u64>,
}

impl RetentionPolicy {
    /// A policy for a category, which removes nothing until it is told what.
    pub fn new(category: Category) -> Self {
        Self { category, max_age: None, max_bytes: None }
    }

    fn removals(&self) -> impl Iterator<Item = Removal> {
        let age = self.max_age;
        let older = age.map(|than| Removal::Older { category: self.category.clone(), than });
        let bytes = self.max_bytes;
        let beyond = bytes.map(|bytes| Removal::Beyond { category: self.category.clone(), bytes });
        older.into_iter().chain(beyond)
    }
}

fn category<'de, D: Deserializer<'de>>(from: D) -> Result<Category, D::Error> {
    Category::new(&String::deserialize(from)?).map_err(de::Error::custom)
}

fn days<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let days = f64::deserialize(from)?;
    let age = Duration::try_from_secs_f64(days * 86_400.0);
    age.map(Some).map_err(|_| de::Error::custom("max_age_days is a number of days from 0"))
}

/// Why nothing was removed, or nobody knows yet that it was.
#[derive(Debug)]
pub(crate) enum RemovalFailure {
    /// Too many removals are waiting.
    Overloaded,
    /// The store could not.
    Store(RemoveError),
    /// The log has it; this node still keeps what was removed.
    Unsettled,
}

impl From<RemoveError> for RemovalFailure {
    fn from(error: RemoveError) -> Self {
        Self::Store(error)
    }
}

/// Sees to it that removals take turns.
#[derive(Debug)]
pub(crate) struct Remover {
    turn: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Default for Remover {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), queue: Arc::new(Semaphore::new(WAITING_MAX + 1)) }
    }
}

impl Node {
    /// Removes, or erases, and waits until this process keeps nothing of it.
    ///
    /// # Errors
    ///
    /// See [`RemovalFailure`].
    pub(crate) async fn remove(&self, removal: Removal) -> Result<Removed, RemovalFailure> {
        let Ok(waiting) = self.remover.queue.clone().try_acquire_owned() else {
            return Err(RemovalFailure::Overloaded);
        };
        let (store, turn) = (self.store.clone(), self.remover.turn.clone());
        let done = self
            .on_runtime(async move {
                let _waiting = waiting;
                let _turn = turn.acquire().await.expect("the semaphore is never closed");
                let removed = store.remove(removal).await?;
                // What is known of the log has to be as new as the removal.
                let removals = match removed.events {
                    0 => None,
                    _ => Some(store.head().await?.removals),
                };
                Ok::<_, RemoveError>((removed, removals))
            })
            .await
            .unwrap_or(Err(ReadError::Unavailable.into()));
        let (removed, removals) = done?;
        let metrics = &self.metrics;
        if removed.erasure.is_some() {
            metrics.events_erased.fetch_add(removed.events, Relaxed);
        } else {
            metrics.events_removed.fetch_add(removed.events, Relaxed);
        }
        metrics.removed_bytes.fetch_add(removed.bytes, Relaxed);
        if let Some(removals) = removals {
            self.settle(&removed, removals).await?;
        }
        Ok(removed)
    }

    /// Waits until the workers have thrown away what they kept of it.
    async fn settle(&self, removed: &Removed, removals: Removals) -> Result<(), RemovalFailure> {
        self.broadcaster.do_send(RemovedHere(removals));
        let notice = removed.erasure.map(|erasure| erasure.position).unwrap_or_default();
        let deadline = Instant::now() + SETTLED_WITHIN;
        while self.is_following() {
            let log = self.log.get();
            let mut settled = log.head >= notice && log.removals.batches >= removals.batches;
            for dispatcher in self.dispatchers() {
                // A worker that has ended keeps nothing.
                if let Ok((looked, known)) = dispatcher.send(Looked).await {
                    settled &= looked >= notice && known.batches >= removals.batches;
                }
            }
            if settled {
                break;
            }
            if Instant::now() > deadline {
                return Err(RemovalFailure::Unsettled);
            }
            sleep(SETTLE_POLL).await;
        }
        Ok(())
    }
}

/// Does what the configured policies say, now and then, for ever.
pub(crate) async fn keep(node: Arc<Node>) {
    let config = &node.config;
    loop {
        for policy in &config.retention {
            for removal in policy.removals() {
                match node.remove(removal).await {
                    Ok(Removed { events: 0, .. }) => {}
                    Ok(removed) => tracing::info!(
                        category = %policy.category,
                        events = removed.events,
                        bytes = removed.bytes,
                        "removed what the retention policy lets go"
                    ),
                    Err(failure) => tracing::warn!(
                        category = %policy.category,
                        ?failure,
                        "the retention policy could not be followed; it is tried again"
                    ),
                }
            }
        }
        sleep(config.retention_interval).await;
    }
}
