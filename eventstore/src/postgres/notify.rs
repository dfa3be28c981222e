//! How nodes hear of each other's commits: a NOTIFY after each group, LISTEN, and a regular look
//! at the head, which alone is believed.
//!
//! A notification says that it is worth looking; its payload is a hint that can only save a look.
//! NOTIFY is sent after the commit, on a connection of its own: inside of the appending transaction
//! it would make the next one wait. Commits that happen within [`QUIET`] of one share the next, as
//! each costs the server a transaction. Whatever is lost — a notification, the
//! listening session, a PgBouncer in between — the regular look makes good.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::{PgConnection, postgres::PgListener};
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::connect::Server;
use crate::{GlobalPosition, plant::Plant, writer::Writer};

const CHANNEL: &str = "tidewire";
const NOTIFY_HEAD: &str = include_str!("sql/notify_head.sql");
const READ_HEAD: &str = include_str!("sql/read_head.sql");
const RELAX_DURABILITY: &str = include_str!("sql/relax_durability.sql");

/// The least time between two notifications: what another node may hear later of a commit that
/// follows another closely.
const QUIET: Duration = Duration::from_millis(5);

/// The pause before a failed connection is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// After so many regular looks that found news of which nothing was heard, the listening session
/// is taken for dead.
const UNHEARD_MAX: u32 = 20;

/// The head after this process's last commit: the writer's, and the mover's.
#[derive(Debug, Clone)]
pub(super) struct Commits {
    /// The writer's, which the feed has as batches.
    pub(super) appended: watch::Receiver<GlobalPosition>,
    /// The mover's, of which it tells the feed itself.
    pub(super) moved: watch::Receiver<GlobalPosition>,
}

impl Commits {
    /// The head after the last of them.
    fn last(&self) -> GlobalPosition {
        (*self.appended.borrow()).max(*self.moved.borrow())
    }

    /// Whether one of them ended at `head`.
    fn include(&self, head: GlobalPosition) -> bool {
        head == *self.appended.borrow() || head == *self.moved.borrow()
    }

    /// Waits for the next one. `None` when there will be no more.
    async fn next(&mut self) -> Option<GlobalPosition> {
        let changed = tokio::select! {
            changed = self.appended.changed() => changed,
            changed = self.moved.changed() => changed,
        };
        changed.ok()?;
        Some((*self.appended.borrow_and_update()).max(*self.moved.borrow_and_update()))
    }
}

/// Sends a NOTIFY for what this process commits.
pub(super) async fn announce(server: Server, mut commits: Commits) {
    let mut connection = None;
    while let Some(head) = commits.next().await {
        let pause = match notify(&server, &mut connection, head).await {
            Ok(()) => QUIET,
            Err(reason) => {
                tracing::debug!(%reason, "could not notify; listeners look for themselves");
                connection = None;
                RETRY
            }
        };
        sleep(pause).await;
    }
}

async fn notify(
    server: &Server,
    connection: &mut Option<PgConnection>,
    head: GlobalPosition,
) -> Result<(), String> {
    if connection.is_none() {
        let mut made = server.connect().await.map_err(|fault| fault.reason())?;
        // A hint needs no disk.
        server
            .within(sqlx::raw_sql(RELAX_DURABILITY).execute(&mut made))
            .await
            .map_err(|fault| fault.reason())?;
        *connection = Some(made);
    }
    let connection = connection.as_mut().expect("it was just made where it was missing");
    let query = sqlx::query(NOTIFY_HEAD).bind(head.to_string());
    server.within(query.execute(connection)).await.map(drop).map_err(|fault| fault.reason())
}

/// What the listener and the head look share.
#[derive(Debug)]
pub(super) struct Ear {
    /// The head as this process's feed was last told it by the head look.
    told: watch::Sender<GlobalPosition>,
    /// What this process commits.
    commits: Commits,
    /// Somebody says that it is worth looking.
    look: Notify,
    /// The listening session should be made anew.
    relisten: Notify,
    /// Regular looks that found news since something was last heard.
    unheard: AtomicU32,
}

impl Ear {
    /// An ear that has heard nothing yet, in a process with these commits.
    pub(super) fn new(commits: Commits) -> Self {
        Self {
            told: watch::Sender::new(GlobalPosition::START),
            commits,
            look: Notify::new(),
            relisten: Notify::new(),
            unheard: AtomicU32::new(0),
        }
    }

    /// Whether a notification is worth a look: not if it hints at what the feed was told, as
    /// one's own do; anything else may be.
    fn is_news(&self, payload: &str) -> bool {
        let known = (*self.told.borrow()).max(self.commits.last());
        payload.parse().map_or(true, |hint: u64| hint > known.get())
    }

    /// Takes note of the head; whether the feed has to be told.
    fn saw(&self, head: GlobalPosition) -> bool {
        let before = self.told.send_replace(head);
        if head < before {
            tracing::error!(%before, %head, "the log went back; was the database restored?");
        }
        head > before && !self.commits.include(head)
    }
}

/// Listens for notifications of any process.
pub(super) async fn listen(server: Server, ear: Arc<Ear>) {
    let pool = server.listen_pool();
    loop {
        let listener = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        match timeout(server.connect_timeout, listener).await {
            Ok(Ok(mut listener)) => {
                // What was committed while nobody listened.
                ear.look.notify_one();
                tokio::select! {
                    () = hear(&mut listener, &ear) => {}
                    () = ear.relisten.notified() => {
                        tracing::warn!("commits go unheard; listening anew");
                    }
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(reason = %super::fault::reason(&error), "cannot listen");
            }
            Err(_) => tracing::debug!("timed out while beginning to listen"),
        }
        sleep(RETRY).await;
    }
}

/// Returns when the session is lost.
async fn hear(listener: &mut PgListener, ear: &Ear) {
    while let Ok(Some(notification)) = listener.try_recv().await {
        ear.unheard.store(0, Relaxed);
        if ear.is_news(notification.payload()) {
            ear.look.notify_one();
        }
    }
}

/// Looks at the head every `every`, and whenever the ear says so, and tells the writer's feed of
/// what others committed.
pub(super) async fn watch_head(
    server: Server,
    writer: Arc<Writer>,
    every: Duration,
    ear: Arc<Ear>,
) {
    let mut connection = None;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reachable = true;
    loop {
        let regular = tokio::select! {
            _ = ticks.tick() => true,
            () = ear.look.notified() => false,
        };
        if regular && Plant::NoHeadPoll.is_active() {
            continue;
        }
        match look(&server, &mut connection).await {
            Ok(head) => {
                if !reachable {
                    tracing::info!(%head, "the head can be read again");
                    reachable = true;
                }
                if ear.saw(head) {
                    writer.hint(head);
                    if regular && ear.unheard.fetch_add(1, Relaxed) + 1 >= UNHEARD_MAX {
                        ear.unheard.store(0, Relaxed);
                        ear.relisten.notify_one();
                    }
                }
            }
            Err(reason) => {
                connection = None;
                if reachable {
                    tracing::warn!(%reason, "the head cannot be read");
                    reachable = false;
                }
            }
        }
    }
}

async fn look(
    server: &Server,
    connection: &mut Option<PgConnection>,
) -> Result<GlobalPosition, String> {
    if connection.is_none() {
        *connection = Some(server.connect().await.map_err(|fault| fault.reason())?);
    }
    let connection = connection.as_mut().expect("it was just made where it was missing");
    let query = sqlx::query_scalar(READ_HEAD);
    let head: i64 =
        server.within(query.fetch_one(connection)).await.map_err(|fault| fault.reason())?;
    Ok(GlobalPosition::new(u64::try_from(head).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(position: u64) -> GlobalPosition {
        GlobalPosition::new(position)
    }

    #[test]
    fn a_hint_saves_a_look_and_nothing_else() {
        let (appended, moved) = (watch::Sender::new(at(7)), watch::Sender::new(at(6)));
        let ear = Ear::new(Commits { appended: appended.subscribe(), moved: moved.subscribe() });
        ear.saw(at(5));
        for (payload, news) in
            [("8", true), ("7", false), ("5", false), ("", true), ("-1", true), ("x", true)]
        {
            assert_eq!(ear.is_news(payload), news, "{payload:?}");
        }
        moved.send_replace(at(8));
        assert!(!ear.is_news("8"), "it was moved here");
    }

    #[test]
    fn the_feed_is_told_what_others_committed_once() {
        let (appended, moved) = (watch::Sender::new(at(0)), watch::Sender::new(at(0)));
        let ear = Ear::new(Commits { appended: appended.subscribe(), moved: moved.subscribe() });
        assert!(ear.saw(at(3)));
        assert!(!ear.saw(at(3)));
        appended.send_replace(at(4));
        assert!(!ear.saw(at(4)), "its own commit went to the feed as a batch");
        assert!(ear.saw(at(5)));
        moved.send_replace(at(6));
        assert!(!ear.saw(at(6)), "the mover told the feed");
        assert!(!ear.saw(at(2)), "a log that went back has no news");
        assert!(ear.saw(at(3)));
    }
}
