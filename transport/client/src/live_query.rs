//! A live query, as a stream of pictures.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::Stream;
use tidewire_eventstore::{DocumentKey, GlobalPosition};
use tidewire_protocol::{
    client::{Notice, Picture, Told},
    query::Reached,
};
use tokio::sync::Notify;

use crate::subscription::SubscriptionEnded;

/// The documents of a query at one position, as the server really had them then.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Of when they are.
    pub reached: Reached,
    /// The documents by key, each the JSON text of an object. Whoever keeps this while the query
    /// goes on makes the next change copy the map, though not the texts.
    pub documents: Arc<Picture>,
    /// What differs from the view before.
    pub changed: Changed,
    /// Whether the server tells changes as they come. Otherwise the view may be old: the client
    /// has no connection, or is catching up.
    pub live: bool,
}

/// What differs between two views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Everything may.
    All,
    /// At most the documents of these keys; those that are not in the view are gone.
    Keys(BTreeSet<DocumentKey>),
}

/// The documents of a query, kept up to date over any number of connections.
///
/// A stream of [`View`]s. Only whole pictures are shown, and who is slow misses those between:
/// the next view is always the latest one, with all that has changed since the last. Dropping the
/// query unsubscribes.
#[derive(Debug)]
pub struct LiveQuery {
    link: Link,
}

impl LiveQuery {
    /// The next view; `None` when the query or its client is over.
    ///
    /// # Errors
    ///
    /// [`SubscriptionEnded`] once, when it ended although nobody asked for it.
    pub async fn next_view(&mut self) -> Option<Result<View, SubscriptionEnded>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The next view that is live and not older than `position`, such as that of an append: it
    /// shows what the append has done. `None` when the query or its client is over.
    ///
    /// # Errors
    ///
    /// [`SubscriptionEnded`] once, when it ended although nobody asked for it.
    pub async fn view_at(
        &mut self,
        position: GlobalPosition,
    ) -> Option<Result<View, SubscriptionEnded>> {
        std::future::poll_fn(|cx| {
            let mut state = self.link.lock();
            let reached = state.reached.is_some_and(|reached| reached.position >= position);
            if reached && state.live {
                state.news = true;
            }
            state.poll(cx, |state| reached && state.live)
        })
        .await
    }

    /// Whether there is a picture that was not yielded yet, or the query is over.
    pub fn has_news(&self) -> bool {
        let state = self.link.lock();
        state.news || matches!(state.life, Life::Over(_))
    }
}

impl Stream for LiveQuery {
    type Item = Result<View, SubscriptionEnded>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.link.lock().poll(cx, |_| true)
    }
}

impl Drop for LiveQuery {
    fn drop(&mut self) {
        self.link.lock().dropped = true;
        self.link.attention.notify_one();
    }
}

#[derive(Debug)]
enum Life {
    Open,
    /// It is over; why, if the program did not ask for it and was not told.
    Over(Option<SubscriptionEnded>),
}

/// Bounded by the query's documents: what is not yielded is one picture and the keys that changed.
#[derive(Debug)]
struct Shared {
    reached: Option<Reached>,
    documents: Arc<Picture>,
    changed: Changed,
    live: bool,
    news: bool,
    life: Life,
    dropped: bool,
    waker: Option<Waker>,
}

impl Shared {
    /// The next view, where there is one that is wanted.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wanted: impl FnOnce(&Self) -> bool,
    ) -> Poll<Option<Result<View, SubscriptionEnded>>> {
        if let Some(reached) = self.reached
            && self.news
            && wanted(self)
        {
            self.news = false;
            let nothing = Changed::Keys(BTreeSet::new());
            let changed = std::mem::replace(&mut self.changed, nothing);
            let (documents, live) = (self.documents.clone(), self.live);
            return Poll::Ready(Some(Ok(View { reached, documents, changed, live })));
        }
        match &mut self.life {
            Life::Over(error) => Poll::Ready(error.take().map(Err)),
            Life::Open => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn set_live(&mut self, live: bool) {
        self.news |= self.live != live && self.reached.is_some();
        self.live = live;
    }
}

/// What the program and the client's task share of a live query.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    shared: Arc<Mutex<Shared>>,
    attention: Arc<Notify>,
}

impl Link {
    /// A live query and the task's link to it; `attention` wakes the task.
    pub(crate) fn new(attention: Arc<Notify>) -> (LiveQuery, Self) {
        let shared = Shared {
            reached: None,
            documents: Arc::default(),
            changed: Changed::All,
            live: false,
            news: false,
            life: Life::Open,
            dropped: false,
            waker: None,
        };
        let link = Self { shared: Arc::new(Mutex::new(shared)), attention };
        (LiveQuery { link: link.clone() }, link)
    }

    /// Whatever happened to a thread that held the lock, what is said here stays whole.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the program has dropped the query.
    pub(crate) fn is_dropped(&self) -> bool {
        self.lock().dropped
    }

    /// The core has told of a picture.
    pub(crate) fn told(&self, told: Told) {
        let mut state = self.lock();
        state.news = true;
        match told {
            Told::Picture { reached, documents } => {
                state.reached = Some(reached);
                state.documents = documents;
                state.changed = Changed::All;
            }
            Told::Changes { reached, changes } => {
                state.reached = Some(reached);
                let Shared { documents, changed, .. } = &mut *state;
                let documents = Arc::make_mut(documents);
                for (key, document) in changes {
                    if let Changed::Keys(keys) = changed {
                        keys.insert(key.clone());
                    }
                    match document {
                        Some(document) => drop(documents.insert(key, document)),
                        None => drop(documents.remove(&key)),
                    }
                }
            }
        }
        state.wake();
    }

    /// The core has news of the query, other than its end.
    pub(crate) fn notice(&self, notice: &Notice) {
        let mut state = self.lock();
        match notice {
            Notice::Live(_) => state.set_live(true),
            Notice::Behind { .. } | Notice::Restated(_) => state.set_live(false),
            _ => {}
        }
        if let Notice::Live(position) | Notice::Position(position) = notice
            && state.live
            && let Some(reached) = &mut state.reached
        {
            reached.position = reached.position.max(*position);
        }
        state.wake();
    }

    /// The connection is gone.
    pub(crate) fn lost(&self) {
        let mut state = self.lock();
        state.set_live(false);
        state.wake();
    }

    /// The query is over.
    pub(crate) fn end(&self, error: Option<SubscriptionEnded>) {
        let mut state = self.lock();
        if matches!(state.life, Life::Open) {
            state.life = Life::Over(error);
        }
        state.set_live(false);
        state.wake();
    }
}
