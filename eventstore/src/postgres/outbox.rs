//! The mover: takes what callers of `tidewire.enqueue` left in the outbox into the log.
//!
//! It looks every 5 to 250 ms, the sooner the more there was of late, without a lock; only when
//! something waits it calls the function `move_outbox`, which takes the append lock. Every node
//! has a mover, and they may work at the same time. What is in the outbox is either there or in
//! the log, as one transaction does both, so a mover that dies leaves nothing undone.
//!
//! What keeps the order is said at the function, in the migration `doors`. The mover's part is to
//! remember the snapshot of its last complete round, so that each look reads only what became
//! visible since, and none of the dead rows that pile up behind somebody's long transaction. It
//! forgets that with its connection, as the next one may be to another server; and since a proxy
//! might hide that, it now and then looks whether anything is left that it should not have missed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sqlx::{PgConnection, Row};
use tokio::{sync::watch, time::sleep};

use super::{connect::Server, fault::Fault};
use crate::{GlobalPosition, StoreStats, writer::Writer};

const PEEK_OUTBOX: &str = include_str!("sql/peek_outbox.sql");
const MOVE_OUTBOX: &str = include_str!("sql/move_outbox.sql");
const FIND_OUTBOX: &str = include_str!("sql/find_outbox.sql");
const MEASURE_OUTBOX: &str = include_str!("sql/measure_outbox.sql");
const RAISE_OUTBOX_BOUND: &str = include_str!("sql/raise_outbox_bound.sql");

/// The pause between two looks while there is something to move.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The pause between two looks when there was nothing for a while.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// The pause after a fault.
const RETRY: Duration = Duration::from_secs(1);

/// Events moved in one transaction, and their bytes; one call is never divided. Appends wait
/// meanwhile: 1000 small events take about 20 ms.
const MOVE_EVENTS_MAX: i32 = 1000;
const MOVE_BYTES_MAX: i64 = 1024 * 1024;

/// The least time between two counts of what waits, and between two raises of the bound.
const SELDOM: Duration = Duration::from_secs(1);
/// The least time between two looks at all of the outbox.
const LOOK_AT_ALL: Duration = Duration::from_secs(10);
/// So many waiting calls are counted at most.
const COUNTED_MAX: i64 = 100_000;

/// What the mover has done, for metrics.
#[derive(Debug, Default)]
pub(super) struct OutboxStats {
    moved_events: AtomicU64,
    waiting_calls: AtomicU64,
    oldest_micros: AtomicU64,
}

impl OutboxStats {
    /// Fills in what `stats` says of the outbox.
    pub(super) fn add_to(&self, stats: &mut StoreStats) {
        stats.outbox_moved_events = self.moved_events.load(Relaxed);
        stats.outbox_waiting_calls = self.waiting_calls.load(Relaxed);
        stats.outbox_oldest_age = Duration::from_micros(self.oldest_micros.load(Relaxed));
    }

    fn waiting(&self, calls: u64, oldest_micros: u64) {
        self.waiting_calls.store(calls, Relaxed);
        self.oldest_micros.store(oldest_micros, Relaxed);
    }
}

/// Moves the outbox of one store into the log, for as long as the store is open.
pub(super) struct Mover {
    server: Server,
    writer: Arc<Writer>,
    /// Told the head after each move.
    moved: watch::Sender<GlobalPosition>,
    stats: Arc<OutboxStats>,
    connection: Option<PgConnection>,
    progress: Progress,
    /// Up to here nothing waits but what was not committed yet; what the database was told of it,
    /// and when.
    through: i64,
    told: (i64, Option<Instant>),
    counted_at: Option<Instant>,
    looked_at_all: Instant,
}

/// How far this mover has come. Snapshots are PostgreSQL's own text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Progress {
    /// Of what this snapshot sees, nothing is left.
    moved: Option<String>,
    /// The round under way.
    round: Option<Round>,
}

/// A round that took more than one transaction so far.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Round {
    /// What is moved is what this sees.
    snapshot: String,
    /// The last seq that was moved.
    after: i64,
}

/// What one transaction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There was nothing to move.
    Idle,
    /// The outbox was emptied of all that was visible.
    Emptied,
    /// There is more.
    More,
}

impl Mover {
    /// A mover that tells the writer's feed, and `moved`, of the head after each move.
    pub(super) fn new(
        server: Server,
        writer: Arc<Writer>,
        moved: watch::Sender<GlobalPosition>,
        stats: Arc<OutboxStats>,
    ) -> Self {
        Self {
            server,
            writer,
            moved,
            stats,
            connection: None,
            progress: Progress::default(),
            through: 0,
            told: (0, None),
            counted_at: None,
            looked_at_all: Instant::now(),
        }
    }

    /// Moves, for ever.
    pub(super) async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        let mut sound = true;
        loop {
            match self.step().await {
                Ok(step) => {
                    if !sound {
                        tracing::info!("the outbox is moved again");
                        sound = true;
                    }
                    pause = next_pause(pause, step);
                }
                Err(fault) => {
                    self.connection = None;
                    self.progress = Progress::default();
                    pause = RETRY;
                    let refused = matches!(fault, Fault::Refused(_));
                    let reason = fault.reason();
                    if refused {
                        tracing::error!(%reason, "the outbox cannot be moved");
                    } else if sound {
                        tracing::warn!(%reason, "the outbox is not moved for now");
                    }
                    sound = false;
                }
            }
            sleep(pause).await;
        }
    }

    async fn step(&mut self) -> Result<Step, Fault> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.server.connect().await?,
        };
        let step = self.step_on(&mut connection).await?;
        // Kept only when all went well.
        self.connection = Some(connection);
        Ok(step)
    }

    async fn step_on(&mut self, connection: &mut PgConnection) -> Result<Step, Fault> {
        let step = if self.progress.round.is_some() {
            self.move_on(connection).await?
        } else {
            let query = sqlx::query(PEEK_OUTBOX).bind(&self.progress.moved);
            let peek = self.server.within(query.fetch_one(&mut *connection)).await?;
            let step = if peek.try_get("waiting")? {
                self.move_on(connection).await?
            } else {
                self.progress.moved = Some(peek.try_get("snapshot")?);
                self.look_at_all(connection).await?;
                Step::Idle
            };
            if step != Step::More {
                self.through = self.through.max(peek.try_get("drawn")?);
            }
            step
        };
        match step {
            Step::Idle | Step::Emptied => self.stats.waiting(0, 0),
            Step::More => self.count(connection).await?,
        }
        self.raise_bound(connection).await?;
        Ok(step)
    }

    /// Now and then, when there seems to be nothing: forgets what is remembered if there is.
    async fn look_at_all(&mut self, connection: &mut PgConnection) -> Result<(), Fault> {
        if self.looked_at_all.elapsed() < LOOK_AT_ALL {
            return Ok(());
        }
        self.looked_at_all = Instant::now();
        let query = sqlx::query_scalar(FIND_OUTBOX);
        if self.server.within(query.fetch_one(connection)).await? {
            self.progress = Progress::default();
        }
        Ok(())
    }

    async fn move_on(&mut self, connection: &mut PgConnection) -> Result<Step, Fault> {
        let round = self.progress.round.as_ref();
        let query = sqlx::query(MOVE_OUTBOX)
            .bind(&self.progress.moved)
            .bind(round.map(|round| &round.snapshot))
            .bind(round.map(|round| round.after))
            .bind(MOVE_EVENTS_MAX)
            .bind(MOVE_BYTES_MAX);
        let row = self.server.within(query.fetch_one(connection)).await?;
        let snapshot: String = row.try_get("round")?;
        let after: Option<i64> = row.try_get("after")?;
        let events: i32 = row.try_get("events")?;
        let head: i64 = row.try_get("head")?;
        if events > 0 {
            self.stats.moved_events.fetch_add(u64::from(events.unsigned_abs()), Relaxed);
            let head = GlobalPosition::new(u64::try_from(head).unwrap_or(0));
            self.writer.hint(head);
            self.moved.send_replace(head);
        }
        self.through = self.through.max(after.unwrap_or(0));
        let complete: bool = row.try_get("complete")?;
        match after.filter(|_| !complete) {
            Some(after) => {
                self.progress.round = Some(Round { snapshot, after });
                Ok(Step::More)
            }
            None => {
                self.progress = Progress { moved: Some(snapshot), round: None };
                Ok(Step::Emptied)
            }
        }
    }

    /// Counts what waits, now and then.
    async fn count(&mut self, connection: &mut PgConnection) -> Result<(), Fault> {
        if self.counted_at.is_some_and(|at| at.elapsed() < SELDOM) {
            return Ok(());
        }
        self.counted_at = Some(Instant::now());
        let query = sqlx::query(MEASURE_OUTBOX).bind(self.through).bind(COUNTED_MAX);
        let row = self.server.within(query.fetch_one(connection)).await?;
        let (calls, oldest): (i64, i64) = (row.try_get("calls")?, row.try_get("oldest_micros")?);
        self.stats.waiting(calls.unsigned_abs(), u64::try_from(oldest).unwrap_or(0));
        Ok(())
    }

    /// Makes room in the outbox for as many calls as were moved, now and then.
    async fn raise_bound(&mut self, connection: &mut PgConnection) -> Result<(), Fault> {
        let (told, at) = self.told;
        if self.through == told || at.is_some_and(|at| at.elapsed() < SELDOM) {
            return Ok(());
        }
        let query = sqlx::query(RAISE_OUTBOX_BOUND).bind(self.through);
        self.server.within(query.execute(connection)).await?;
        self.told = (self.through, Some(Instant::now()));
        Ok(())
    }
}

/// How long to wait after a step, when the wait before it was `pause`.
fn next_pause(pause: Duration, step: Step) -> Duration {
    match step {
        Step::More => Duration::ZERO,
        Step::Emptied => PAUSE_MIN,
        Step::Idle => (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_soon_after_there_was_something_and_seldom_after_there_was_nothing() {
        let millis = Duration::from_millis;
        assert_eq!(next_pause(PAUSE_MAX, Step::More), Duration::ZERO);
        assert_eq!(next_pause(PAUSE_MAX, Step::Emptied), millis(5));
        let mut pause = next_pause(Duration::ZERO, Step::Emptied);
        let mut pauses = vec![];
        for _ in 0..8 {
            pause = next_pause(pause, Step::Idle);
            pauses.push(pause);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 250, 250, 250].map(millis));
        assert_eq!(next_pause(Duration::ZERO, Step::Idle), millis(5));
        assert_eq!(next_pause(RETRY, Step::Idle), millis(250));
    }
}
