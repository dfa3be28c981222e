//! The writer's backend: commits a group in one round trip.
//!
//! It plans the group on what it remembers of the log, and sends the rows to the function
//! `append_group`, which takes the append lock and inserts them only if what the plan rests on
//! still holds. Otherwise the state is loaded and the group planned anew; where others keep
//! appending in between, the lock is taken first and held while the state is loaded. Being wrong
//! costs a round trip and nothing else.
//!
//! When the answer to a commit is lost, the log is searched under the append lock. If the plan is
//! not there it never will be: the fence is raised, so that a request which is still on its way
//! to the server is void when it arrives.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, Row};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    commands,
    connect::Server,
    epoch,
    fault::Fault,
    group::Rows,
    known::{Basis, Known},
};
use crate::{
    Appended, EventId, GlobalPosition, Revision, StreamName, Timestamp,
    plan::{self, LogState, Plan, Request, RequestRow},
    writer::{Away, Backend, CommitError},
};

const FIND_EVENT: &str = include_str!("sql/find_event.sql");
const FIND_REQUESTS: &str = include_str!("sql/find_requests.sql");
const LOAD_STATE: &str = include_str!("sql/load_state.sql");
const LOCK_HEAD: &str = include_str!("sql/lock_head.sql");
const RAISE_FENCE: &str = include_str!("sql/raise_fence.sql");

/// After so many attempts in vain for one group, the lock is taken before the state is loaded.
const ATTEMPTS_UNLOCKED: usize = 2;

/// A connection idle for longer is asked for a sign of life before it appends.
const TRUSTED_IDLE: Duration = Duration::from_millis(250);

/// One connection that appends.
pub(super) struct Appender {
    server: Server,
    /// `None` after it broke.
    connection: Option<PgConnection>,
    /// When the server was last known to answer.
    answered_at: Instant,
    known: Known,
    /// Whether others append so much that the lock is better taken first.
    contended: bool,
    /// Told the head after each commit.
    committed: watch::Sender<GlobalPosition>,
}

/// What `append_group` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Appended,
    Moved,
    Unforeseen,
}

/// When a fault struck.
#[derive(Clone, Copy)]
enum Phase<'a> {
    /// Before anything was asked to be committed.
    Before,
    /// While the plan was to become durable.
    Committing(&'a Plan),
}

impl Appender {
    /// An appender that uses `connection`, and tells `committed` the head after each commit.
    pub(super) fn new(
        server: Server,
        connection: PgConnection,
        committed: watch::Sender<GlobalPosition>,
    ) -> Self {
        let (known, contended) = (Known::default(), false);
        let answered_at = Instant::now();
        Self { server, connection: Some(connection), answered_at, known, contended, committed }
    }

    /// Tells the writer of a fault. A connection that faulted is not used again, unless the
    /// server merely refused a statement.
    fn failed(&mut self, fault: Fault, phase: Phase<'_>) -> CommitError {
        self.known.forget();
        match (fault, phase) {
            (Fault::Refused(reason), _) => CommitError::Refused(reason),
            (Fault::Lost(reason), Phase::Committing(plan)) => {
                tracing::debug!(%reason, "lost the connection during a commit");
                self.connection = None;
                CommitError::Unknown(Box::new(plan.clone()))
            }
            (Fault::Lost(reason) | Fault::Ended(reason) | Fault::Busy(reason), _) => {
                self.connection = None;
                CommitError::Away(Away(reason))
            }
        }
    }

    fn committed(&mut self, plan: &Plan) {
        self.known.recorded(plan);
        if let Some(last) = plan.events.last() {
            self.committed.send_replace(last.position);
        }
    }

    /// Appends what was planned without the lock, if it still holds. `None` if it does not.
    async fn commit_unlocked(
        &mut self,
        group: &[Request],
        foreseen: Option<Basis>,
    ) -> Result<Option<Plan>, CommitError> {
        let now = Timestamp::now();
        let foreseen = foreseen.and_then(|basis| {
            let plan = plan::plan(group, &basis.state, now);
            (!refuses_without_facts(&plan)).then_some((basis, plan))
        });
        let connection = connected(&mut self.connection, &self.server).await?;
        let (basis, plan) = match foreseen {
            Some(foreseen) => foreseen,
            None => match load(connection, &self.server, group).await {
                Ok(basis) => {
                    self.known.loaded(group, &basis);
                    let plan = plan::plan(group, &basis.state, now);
                    (basis, plan)
                }
                Err(fault) => return Err(self.failed(fault, Phase::Before)),
            },
        };
        if plan.is_empty() {
            return Ok(Some(plan));
        }
        match append_group(connection, &self.server, &plan, &basis).await {
            Ok(Verdict::Appended) => {
                self.committed(&plan);
                return Ok(Some(plan));
            }
            Ok(Verdict::Moved) => self.known.forget(),
            Ok(Verdict::Unforeseen) => self.known.was_wrong(),
            Err(fault) => return Err(self.failed(fault, Phase::Committing(&plan))),
        }
        Ok(None)
    }

    async fn commit_on_connection(&mut self, group: &[Request]) -> Result<Plan, CommitError> {
        if !self.contended {
            for attempt in 0..ATTEMPTS_UNLOCKED {
                let foreseen = if attempt == 0 { self.known.foresee(group) } else { None };
                if let Some(plan) = self.commit_unlocked(group, foreseen).await? {
                    return Ok(plan);
                }
            }
            self.contended = true;
        }
        self.commit_locked(group).await
    }

    /// Takes the lock, and plans on what is loaded under it.
    async fn commit_locked(&mut self, group: &[Request]) -> Result<Plan, CommitError> {
        let now = Timestamp::now();
        let head_before = self.known.head();
        let server = &self.server;
        let connection = connected(&mut self.connection, server).await?;
        let prepared = async {
            let mut transaction = server.within(connection.begin()).await?;
            server.within(sqlx::query(LOCK_HEAD).execute(&mut *transaction)).await?;
            let basis = load(&mut transaction, server, group).await?;
            let plan = plan::plan(group, &basis.state, now);
            if !plan.is_empty() {
                let verdict = append_group(&mut transaction, server, &plan, &basis).await?;
                if verdict != Verdict::Appended {
                    return Err(Fault::Busy(format!("{verdict:?} while the head was locked")));
                }
            }
            Ok((transaction, basis, plan))
        };
        let done = match prepared.await {
            Ok((transaction, basis, plan)) => match server.within(transaction.commit()).await {
                Ok(()) => Ok((basis, plan)),
                Err(fault) => Err((fault, Some(plan))),
            },
            Err(fault) => Err((fault, None)),
        };
        match done {
            Ok((basis, plan)) => {
                self.contended = head_before != Some(basis.state.head);
                self.known.loaded(group, &basis);
                self.committed(&plan);
                Ok(plan)
            }
            Err((fault, Some(plan))) => Err(self.failed(fault, Phase::Committing(&plan))),
            Err((fault, None)) => Err(self.failed(fault, Phase::Before)),
        }
    }
}

impl Backend for Appender {
    async fn commit(&mut self, group: &[Request]) -> Result<Plan, CommitError> {
        if self.answered_at.elapsed() > TRUSTED_IDLE {
            // A connection that died unnoticed would leave the group in doubt, and whoever
            // appended waiting until the database is back.
            self.reconnect().await?;
        }
        let committed = self.commit_on_connection(group).await;
        if committed.is_ok() {
            self.answered_at = Instant::now();
        }
        committed
    }

    async fn resolve(&mut self, plan: &Plan) -> Result<bool, Away> {
        self.known.forget();
        let server = &self.server;
        let connection = connected(&mut self.connection, server).await?;
        let resolved = async {
            let mut transaction = server.within(connection.begin()).await?;
            server.within(sqlx::query(LOCK_HEAD).execute(&mut *transaction)).await?;
            let recorded = is_recorded(&mut transaction, server, plan).await?;
            if !recorded {
                server.within(sqlx::query(RAISE_FENCE).execute(&mut *transaction)).await?;
            }
            server.within(transaction.commit()).await?;
            Ok::<_, Fault>(recorded)
        };
        let resolved = resolved.await;
        match resolved {
            Ok(recorded) => {
                if recorded && let Some(last) = plan.events.last() {
                    self.committed.send_replace(last.position);
                }
                Ok(recorded)
            }
            Err(fault) => {
                self.connection = None;
                Err(Away(fault.reason()))
            }
        }
    }

    async fn reconnect(&mut self) -> Result<(), Away> {
        if let Some(connection) = &mut self.connection
            && self.server.within(connection.ping()).await.is_err()
        {
            self.connection = None;
        }
        connected(&mut self.connection, &self.server).await.map(drop)
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // The server notices either way; saying goodbye is a courtesy.
            let _ = self.server.within(connection.close()).await;
        }
    }
}

/// The connection, made anew where it broke; then the server may be another one.
async fn connected<'a>(
    connection: &'a mut Option<PgConnection>,
    server: &Server,
) -> Result<&'a mut PgConnection, Away> {
    if connection.is_none() {
        let away = |fault: Fault| Away(fault.reason());
        let mut made = server.connect().await.map_err(away)?;
        epoch::observe(&mut made, server).await.map_err(away)?;
        *connection = Some(made);
    }
    Ok(connection.as_mut().expect("it was just made where it was missing"))
}

/// Whether `plan`, made without a look at the log, refuses a request: then it lacks facts. What
/// is remembered knows neither the ids and keys recorded before, by which a request has its first
/// answer whatever it expects, nor whether a stream taken for new is.
fn refuses_without_facts(plan: &Plan) -> bool {
    plan.outcomes.iter().any(Result::is_err)
}

/// Loads what `group` depends on. The head comes first: what is found after it can only be newer,
/// and then the head has moved.
async fn load(
    connection: &mut PgConnection,
    server: &Server,
    group: &[Request],
) -> Result<Basis, Fault> {
    let streams = plan::streams(group);
    let names: Vec<&str> = streams.iter().map(|stream| stream.as_str()).collect();
    let query = sqlx::query(LOAD_STATE).bind(names);
    let row = server.within(query.fetch_one(&mut *connection)).await?;
    let revisions: Vec<Option<i64>> = row.try_get("revisions")?;
    let removed: Vec<Option<i64>> = row.try_get("removed")?;
    let mut state = LogState {
        head: GlobalPosition::new(unsigned(row.try_get("head")?)),
        ..LogState::default()
    };
    for ((stream, revision), removed) in streams.into_iter().zip(revisions).zip(removed) {
        if revision.is_none() && removed.is_some() {
            state.emptied.insert(stream.clone());
        }
        if let Some(revision) = revision.or(removed) {
            state.revisions.insert(stream.clone(), Revision::new(unsigned(revision)));
        }
    }
    let ids: Vec<Uuid> = plan::client_ids(group).into_iter().map(EventId::as_uuid).collect();
    if !ids.is_empty() {
        let query = sqlx::query(FIND_REQUESTS).bind(ids);
        for row in server.within(query.fetch_all(&mut *connection)).await? {
            let stream: &str = row.try_get("stream")?;
            let found = RequestRow {
                stream: StreamName::recorded(stream)
                    .map_err(|error| Fault::Refused(format!("a recorded request: {error}")))?,
                id: EventId::from(row.try_get::<Uuid, _>("id")?),
                place: row.try_get::<i32, _>("place")?.unsigned_abs(),
                events: row.try_get::<i32, _>("events")?.unsigned_abs(),
                appended: Appended {
                    revision: Revision::new(unsigned(row.try_get("revision")?)),
                    position: GlobalPosition::new(unsigned(row.try_get("position")?)),
                },
            };
            state.recorded.insert(found.id, found);
        }
    }
    state.commands = commands::find(connection, server, &plan::command_keys(group)).await?;
    Ok(Basis { state, fence: row.try_get("fence")?, presumed_new: Vec::new() })
}

/// Whether `plan` was recorded, which shows by any of its rows.
async fn is_recorded(
    connection: &mut PgConnection,
    server: &Server,
    plan: &Plan,
) -> Result<bool, Fault> {
    match (plan.events.first(), plan.commands.first()) {
        (Some(first), _) => {
            let find = sqlx::query_scalar(FIND_EVENT)
                .bind(number(first.position.get()))
                .bind(first.id.as_uuid());
            server.within(find.fetch_one(connection)).await
        }
        (None, Some(first)) => commands::is_recorded(connection, server, first).await,
        (None, None) => Ok(true),
    }
}

async fn append_group(
    connection: &mut PgConnection,
    server: &Server,
    plan: &Plan,
    basis: &Basis,
) -> Result<Verdict, Fault> {
    let rows = Rows::of(plan, basis);
    let row = server.within(rows.query().fetch_one(connection)).await?;
    match row.try_get(0)? {
        "appended" => Ok(Verdict::Appended),
        "moved" => Ok(Verdict::Moved),
        "unforeseen" => Ok(Verdict::Unforeseen),
        other => Err(Fault::Busy(format!("append_group says {other}"))),
    }
}

/// A number that constraints keep from being negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A number that is never beyond [`crate::NUMBER_MAX`].
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
