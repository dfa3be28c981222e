//! [`Lease`]: this node's right to write a projection, kept up by a task of its own, so that long
//! work on a batch does not let it run out.
//!
//! The right ends by this node's clock, before the database's says so: at once when a renewal is
//! refused, and when the last one that succeeded was begun too long ago. Where that judgement is
//! wrong, because the whole process stood still between it and the commit, the store's fence
//! refuses the commit.

use std::{sync::Arc, time::Duration};

use tidewire_eventstore::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{Config, DocumentStore, StoreError, documents::Held};

/// The right to write a projection.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) held: Held,
    /// Until when; renewed by its keeper.
    until: watch::Receiver<Instant>,
}

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Another node has claimed the projection.
    Fenced,
    /// It could not be renewed in time.
    Late,
}

impl Lease {
    /// A lease that was claimed by a question begun at `asked_at`, and what keeps it: a future that
    /// resolves when it is lost.
    pub(crate) fn new(
        held: Held,
        asked_at: Instant,
        config: Arc<Config>,
        documents: Arc<dyn DocumentStore>,
    ) -> (Self, BoxFuture<'static, Lost>) {
        let (until, receiver) = watch::channel(asked_at + ours(config.lease));
        let keeper = keep(held.clone(), until, config, documents);
        (Self { held, until: receiver }, Box::pin(keeper))
    }

    /// Whether this node may begin to write.
    pub(crate) fn may_write(&self) -> bool {
        Instant::now() < *self.until.borrow()
    }
}

/// How much of a lease is used: what is begun by its end has time to reach the database.
fn ours(lease: Duration) -> Duration {
    lease * 4 / 5
}

async fn keep(
    held: Held,
    until: watch::Sender<Instant>,
    config: Arc<Config>,
    documents: Arc<dyn DocumentStore>,
) -> Lost {
    let mut failures = 0;
    let mut next = Instant::now() + config.renew;
    loop {
        sleep_until(next).await;
        let asked_at = Instant::now();
        let end = *until.borrow();
        match timeout_at(end, documents.renew(&held, config.lease)).await {
            Ok(Ok(())) => {
                failures = 0;
                until.send_replace(asked_at + ours(config.lease));
                next = asked_at + config.renew;
            }
            Ok(Err(StoreError::Fenced)) => return Lost::Fenced,
            Ok(Err(error)) => {
                tracing::debug!(projection = %held.name, %error, "cannot renew a lease");
                next = Instant::now() + config.retry.delay(failures, 0.0).min(config.renew);
                failures += 1;
                if next >= end {
                    return Lost::Late;
                }
            }
            Err(_) => return Lost::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidewire_eventstore::ProjectionName;
    use tokio::time::{advance, pause};
    use uuid::Uuid;

    use super::*;
    use crate::documents::{MemoryDocuments, Owner};

    async fn claimed(documents: &MemoryDocuments, config: &Arc<Config>) -> (Held, Instant) {
        let name = ProjectionName::new("board").expect("a name");
        documents.register(&name, 1).await.expect("registers");
        let owner = Owner { id: Uuid::new_v4(), node: "a".into() };
        let asked_at = Instant::now();
        let fence = documents.claim(&name, owner, config.lease).await.expect("answers");
        (Held { name, fence: fence.expect("nobody has it") }, asked_at)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_kept_outlives_its_length() {
        let documents = MemoryDocuments::new();
        let config = Arc::new(Config::default());
        let (held, asked_at) = claimed(&documents, &config).await;
        let name = held.name.clone();
        let store = Arc::new(documents.clone());
        let (lease, keeper) = Lease::new(held, asked_at, Arc::clone(&config), store);
        let keeper = tokio::spawn(keeper);
        tokio::time::sleep(config.lease * 10).await;
        assert!(lease.may_write());
        let other = Owner { id: Uuid::new_v4(), node: "b".into() };
        let claim = documents.claim(&name, other, config.lease).await.expect("answers");
        assert_eq!(claim, None);
        keeper.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_another_has_claimed_is_lost_with_the_next_renewal() {
        let documents = MemoryDocuments::new();
        let config = Arc::new(Config::default());
        let (held, asked_at) = claimed(&documents, &config).await;
        documents.release(&held).await.expect("releases");
        let other = Owner { id: Uuid::new_v4(), node: "b".into() };
        let claim = documents.claim(&held.name, other, config.lease).await.expect("answers");
        assert!(claim.is_some());
        let (_lease, keeper) = Lease::new(held, asked_at, Arc::clone(&config), Arc::new(documents));
        assert_eq!(keeper.await, Lost::Fenced);
        assert!(asked_at.elapsed() < config.renew * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_cannot_be_renewed_ends_before_the_database_lets_another_claim() {
        let documents = MemoryDocuments::new();
        let config = Arc::new(Config::default());
        let (held, asked_at) = claimed(&documents, &config).await;
        documents.close().await;
        let (lease, keeper) = Lease::new(held, asked_at, Arc::clone(&config), Arc::new(documents));
        assert_eq!(keeper.await, Lost::Late);
        assert!(asked_at.elapsed() < config.lease);
        tokio::time::sleep_until(asked_at + ours(config.lease)).await;
        assert!(!lease.may_write());
    }

    #[tokio::test]
    async fn a_process_that_stood_still_may_not_write_when_it_wakes() {
        pause();
        let documents = MemoryDocuments::new();
        let config = Arc::new(Config::default());
        let (held, asked_at) = claimed(&documents, &config).await;
        let (lease, _keeper) = Lease::new(held, asked_at, Arc::clone(&config), Arc::new(documents));
        assert!(lease.may_write());
        advance(config.lease).await;
        assert!(!lease.may_write());
    }
}
