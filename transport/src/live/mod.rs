//! Live queries: the documents of projections, and what becomes of them, on their way to sockets.
//!
//! 1. [`follow`] hears each batch of changes of a projection once a process and gives it to each
//!    worker that has queries of it.
//! 2. The worker's [`hub`] finds the groups that a change may concern by an [`interest`] index,
//!    decides for each what it is for its query ([`effect`]), encodes that once into the group's
//!    [`log`], and wakes the group's sessions. A query with an order is a [`window`], which the hub
//!    keeps.
//! 3. Each subscription is a [`feed`]: it reads its state and what has changed since from the store
//!    ([`reads`], few at once and shared), attaches to its group's log, and falls off it when its
//!    socket is too slow. Nothing is buffered for it.
//!
//! What always holds: whoever attaches holds exactly the picture of its position, because it has
//! read the changes from the store to their end after its state; so a patch is made only of what
//! its receiver has.

mod effect;
mod feed;
mod flights;
mod follow;
mod frames;
mod hub;
mod interest;
mod log;
mod reads;
mod window;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use actix::Addr;
use tidewire_eventstore::ProjectionName;
use tidewire_projections::{
    Projections, WaitError, Watched,
    query::{self, QueryError, QueryPage},
};
use tidewire_protocol::{
    ErrorBody, ErrorCode, QueryRequest,
    query::{Query, Reached},
    session::QueryChecked,
};
use tokio::runtime::Handle;

use self::{
    follow::Followers,
    reads::{ReadMetrics, Reads},
};
use crate::{answers, dispatcher::Dispatcher};

pub(crate) use feed::LiveFeed;
pub(crate) use hub::{LiveHub, LiveKey, LiveNews, Seat, Wanting};
pub(crate) use reads::Unread;

/// Reads a page of documents that a client asked for.
///
/// # Errors
///
/// See [`query::page`].
pub(crate) async fn page(
    watched: &Watched,
    request: &QueryRequest,
) -> Result<QueryPage, QueryError> {
    let (query, cursor) = (&request.query, request.cursor.as_deref());
    query::check(query, watched.definition())?;
    let active = reads::active(watched, query).await?;
    let store = &**watched.documents();
    let definition = watched.definition();
    query::page(store, definition, active.generation, query, cursor, request.limit).await
}

/// What the live queries of a process count, besides what its workers do.
#[derive(Debug, Default)]
pub(crate) struct LiveMetrics {
    pub(crate) reads: Arc<ReadMetrics>,
    /// Batches that a worker's full mailbox refused.
    pub(crate) refused: AtomicU64,
}

/// The projections of a process, for its sessions.
pub(crate) struct Live {
    projections: Option<Arc<Projections>>,
    pub(crate) reads: Reads,
    followers: Followers,
}

impl Live {
    pub(crate) fn new(
        projections: Option<Arc<Projections>>,
        runtime: &Handle,
        reads_max: usize,
        metrics: Arc<LiveMetrics>,
    ) -> Self {
        let reads = Reads::new(runtime.clone(), reads_max, metrics.reads.clone());
        Self { projections, reads, followers: Followers::new(runtime.clone(), metrics) }
    }

    /// The projections, where there are any.
    pub(crate) fn projections(&self) -> Option<&Arc<Projections>> {
        self.projections.as_ref()
    }

    /// The projection of this name.
    ///
    /// # Errors
    ///
    /// `unknown_projection`.
    pub(crate) fn watched(&self, name: &ProjectionName) -> Result<Watched, ErrorBody> {
        let watched = self.projections.as_ref().and_then(|all| all.get(name.as_str()));
        watched.ok_or_else(|| {
            ErrorBody::of(ErrorCode::UnknownProjection)
                .with_details(serde_json::json!({ "projection": name.as_str() }))
        })
    }

    /// Whether a query can be served, and how its projection stands as far as this node knows.
    ///
    /// # Errors
    ///
    /// What is wrong with the query.
    pub(crate) fn check(&self, query: &Query) -> Result<QueryChecked, ErrorBody> {
        let watched = self.watched(&query.projection)?;
        query::check(query, watched.definition()).map_err(|error| answers::query_error(&error))?;
        Ok(QueryChecked { active: watched.reached(), changes_from: watched.changes_from() })
    }

    /// Tells a worker what becomes of a projection from now on.
    pub(crate) fn follow(&self, watched: &Watched, dispatcher: Addr<Dispatcher>) {
        self.followers.join(watched, dispatcher);
    }

    /// Tells a worker nothing more of a projection.
    pub(crate) fn unfollow(&self, name: &ProjectionName, dispatcher: &Addr<Dispatcher>) {
        self.followers.leave(name, dispatcher);
    }

    /// Waits until the projection of a request has come as far as the request wants, if it does.
    ///
    /// # Errors
    ///
    /// `wait_timeout` and `projection_unavailable`; `unknown_projection`.
    pub(crate) async fn wait(&self, request: &QueryRequest) -> Result<(), ErrorBody> {
        let Some(position) = request.wait else { return Ok(()) };
        let watched = self.watched(&request.query.projection)?;
        let timeout = Duration::from_millis(request.timeout_ms.into());
        let waited = watched.wait(position, timeout).await;
        waited.map(drop).map_err(|error| wait_error(&error, watched.reached()))
    }
}

fn wait_error(error: &WaitError, reached: Reached) -> ErrorBody {
    let code = ErrorCode::parse(error.code()).unwrap_or(ErrorCode::ProjectionUnavailable);
    let (position, generation) = (reached.position, reached.generation);
    ErrorBody::new(code, error.to_string())
        .with_details(serde_json::json!({ "position": position, "generation": generation }))
}
