//! The durable consumers that sessions of this node hold: claims, checkpoints, releases.
//!
//! A session decides what is to be saved and when; this carries it to the store, many consumers in
//! one transaction, on the database's runtime. Once a second it renews what is held, and passes on
//! what has happened meanwhile: a consumer was taken over, a group's shares have changed, parked
//! events are to be delivered again. It knows fences, which sessions do not.
//!
//! What waits is bounded by what is held: each member has at most one save and one release under
//! way, and claims wait in a queue of their own.

mod held;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tidewire_eventstore::{
    Claim, Claimed, ConsumerName, ConsumerStore, GlobalPosition, Holding, MemberId, Partition,
    Release, Save, Sharing,
};
use tidewire_protocol::{ClaimRequest, ConsumerRef, ErrorBody, ErrorCode, Grant, Progress};
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, mpsc, oneshot},
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::answers;
use held::Held;

/// Claims that are with the store at once; more wait.
const CLAIMS_AT_ONCE: usize = 4;

/// Claims that may wait; one more is refused as overloaded.
const CLAIMS_WAITING_MAX: usize = 4096;

/// How long saves are gathered before they are written together.
const GATHER: Duration = Duration::from_millis(20);

/// Most partitions that are saved in one transaction, give or take those of one member.
const SAVES_A_ROUND: usize = 1024;

/// How often what is held is renewed.
const KEEP: Duration = Duration::from_secs(1);

/// How long a claim waits for earlier holders on this node to be released.
const SETTLE: Duration = Duration::from_secs(5);

/// How long a release is tried again while the store is away. After that the consumer's next
/// holder finds it as an unclean end leaves it.
const RELEASE_TRIES: Duration = Duration::from_secs(60);

/// How long to wait after the store was away.
const AWAY_PAUSE: Duration = Duration::from_millis(500);

/// News for a holder that it has not taken yet.
const NOTICES: usize = 16;

/// What the consumers of one node count.
#[derive(Debug, Default)]
pub(crate) struct ConsumerMetrics {
    /// Consumers and group members held by sessions of this node.
    pub(crate) held: AtomicI64,
    pub(crate) claims: AtomicU64,
    pub(crate) claims_refused: AtomicU64,
    /// Checkpoints written, one a partition.
    pub(crate) checkpoints: AtomicU64,
    /// Saves that the store could not take.
    pub(crate) saves_failed: AtomicU64,
    /// Holders that lost their consumer to another.
    pub(crate) taken: AtomicU64,
    pub(crate) rebalances: AtomicU64,
}

/// What a holder has to hear. The end of the news means that the consumer is another's.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The group's shares have changed.
    Rebalance,
    /// Parked events are to be delivered again: partition, position, attempts so far.
    Replay(Vec<(Partition, GlobalPosition, u32)>),
}

/// A claim that succeeded.
pub(crate) struct Granted {
    pub(crate) member: MemberId,
    pub(crate) grant: Grant,
    pub(crate) notices: mpsc::Receiver<Notice>,
}

/// What a save came to.
pub(crate) type Saved = Result<(), ErrorBody>;

/// The consumers of one node.
pub(crate) struct Consumers {
    store: Arc<dyn ConsumerStore>,
    runtime: Handle,
    node: String,
    held: Mutex<HashMap<MemberId, Held>>,
    /// Who has something to save, each once. Locked after `held`.
    dirty: Mutex<VecDeque<MemberId>>,
    claims: Semaphore,
    claims_waiting: Arc<Semaphore>,
    /// There is something to save.
    work: Notify,
    /// A round of saves is over.
    round: Notify,
    metrics: Arc<ConsumerMetrics>,
}

/// What one member has in a round of saves.
struct Part {
    member: MemberId,
    name: ConsumerName,
    sharing: Sharing,
    saves: std::ops::Range<usize>,
    progress: Progress,
    answer: Option<oneshot::Sender<Saved>>,
    release: Option<Release>,
}

impl Consumers {
    /// The consumers of `node` in `store`, and the task that sees to them.
    pub(crate) fn start(
        store: Arc<dyn ConsumerStore>,
        runtime: &Handle,
        node: String,
        metrics: Arc<ConsumerMetrics>,
    ) -> (Arc<Self>, AbortHandle) {
        let consumers = Arc::new(Self {
            store,
            runtime: runtime.clone(),
            node,
            held: Mutex::default(),
            dirty: Mutex::default(),
            claims: Semaphore::new(CLAIMS_AT_ONCE),
            claims_waiting: Arc::new(Semaphore::new(CLAIMS_WAITING_MAX)),
            work: Notify::new(),
            round: Notify::new(),
            metrics,
        });
        let task = runtime.spawn(consumers.clone().run());
        (consumers, task.abort_handle())
    }

    fn held(&self) -> MutexGuard<'_, HashMap<MemberId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a consumer for a session; for the `member` that has [stayed](Self::release), if it
    /// has. If the caller stops waiting, the claim is given up again.
    ///
    /// # Errors
    ///
    /// As the client is told: `consumer_mismatch`, `overloaded`, `unavailable`, …
    pub(crate) async fn claim(
        self: &Arc<Self>,
        request: ClaimRequest,
        member: Option<MemberId>,
    ) -> Result<Granted, ErrorBody> {
        let Ok(waiting) = self.claims_waiting.clone().try_acquire_owned() else {
            self.metrics.claims_refused.fetch_add(1, Relaxed);
            return Err(ErrorBody::of(ErrorCode::Overloaded));
        };
        let (answer, answered) = oneshot::channel();
        let consumers = self.clone();
        self.runtime.spawn(async move {
            let _waiting = waiting;
            let claimed = consumers.claim_in_turn(request, member).await;
            if let Err(Ok(granted)) = answer.send(claimed) {
                consumers.release(granted.member, Progress::default(), true);
            }
        });
        answered.await.unwrap_or_else(|_| Err(ErrorCode::Internal.into()))
    }

    async fn claim_in_turn(
        &self,
        request: ClaimRequest,
        member: Option<MemberId>,
    ) -> Result<Granted, ErrorBody> {
        let _turn = self.claims.acquire().await.expect("the semaphore is never closed");
        let ClaimRequest { consumer, feed, after } = request;
        self.settled(&consumer.name).await;
        let member = member.unwrap_or_else(MemberId::generate);
        let claim = Claim {
            name: consumer.name.clone(),
            sharing: consumer.sharing,
            member,
            node: self.node.clone(),
            target: answers::target(&feed.target),
            filter: feed.filter.as_ref().map(|filter| filter.to_json().to_string()),
            after,
        };
        let claimed =
            self.store.claim(claim).await.map_err(|error| answers::consumer_error(&error))?;
        self.metrics.claims.fetch_add(1, Relaxed);
        Ok(self.take_in(consumer, member, claimed))
    }

    /// Takes in what the store has granted. Claims of one consumer may come back from the store in
    /// another order than they were granted: their fences tell which of them holds it.
    fn take_in(&self, consumer: ConsumerRef, member: MemberId, claimed: Claimed) -> Granted {
        let (notices, heard) = mpsc::channel(NOTICES);
        let (held, grant) = Held::new(consumer.name, consumer.sharing, claimed, notices);
        let mut all = self.held();
        if held.sharing == Sharing::Exclusive {
            // Whoever held it here need not wait to be told.
            self.drop_taken(&mut all, |other| {
                other.name == held.name && other.fence() < held.fence()
            });
        }
        all.insert(member, held);
        self.metrics.held.store(all.len() as i64, Relaxed);
        Granted { member, grant, notices: heard }
    }

    /// Waits until nothing of a consumer waits to be released on this node, so that its next
    /// holder begins where the last one ended.
    async fn settled(&self, name: &ConsumerName) {
        let pending = |held: &Held| held.name == *name && held.is_leaving();
        let settled = async {
            loop {
                let round = self.round.notified();
                if !self.held().values().any(pending) {
                    return;
                }
                round.await;
            }
        };
        // A store that is away answers the claim itself.
        let _ = timeout(SETTLE, settled).await;
    }

    /// Saves a member's progress; `None` where it holds nothing any more. A member has one save at
    /// a time.
    pub(crate) fn save(
        &self,
        member: MemberId,
        progress: Progress,
    ) -> Option<oneshot::Receiver<Saved>> {
        let (answer, answered) = oneshot::channel();
        let mut all = self.held();
        let held = all.get_mut(&member)?;
        held.save = Some((progress, answer));
        self.queue(member, held);
        Some(answered)
    }

    /// Gives up what a member holds, with its last progress. A group's member that was told of new
    /// shares stays in the group, to claim again: then the group's name is returned.
    pub(crate) fn release(
        &self,
        member: MemberId,
        progress: Progress,
        clean: bool,
    ) -> Option<ConsumerName> {
        let release = if clean { Release::Clean } else { Release::Unclean };
        let mut all = self.held();
        let held = all.get_mut(&member)?;
        // The last progress has all that an earlier save has.
        held.save = None;
        held.release = Some((progress, release));
        held.release_since = Instant::now();
        held.stays = held.rebalance_told && clean;
        self.queue(member, held);
        held.stays.then(|| held.name.clone())
    }

    /// Takes note that a member has something to save.
    fn queue(&self, member: MemberId, held: &mut Held) {
        if !std::mem::replace(&mut held.queued, true) {
            self.dirty.lock().unwrap_or_else(PoisonError::into_inner).push_back(member);
        }
        self.work.notify_one();
    }

    /// A member that has stayed in its group does not claim again.
    pub(crate) fn leave(self: &Arc<Self>, name: ConsumerName, member: MemberId) {
        let consumers = self.clone();
        self.runtime.spawn(async move { consumers.left(name, member).await });
    }

    async fn left(&self, name: ConsumerName, member: MemberId) {
        if let Err(error) = self.store.leave(name, member).await {
            // Its lease ends by itself.
            tracing::debug!(%error, "a group's member could not say that it leaves");
        }
    }

    /// Waits until every release is written, at most `wait`.
    pub(crate) async fn flush(&self, wait: Duration) {
        let flushed = async {
            loop {
                let round = self.round.notified();
                if !self.held().values().any(Held::is_leaving) {
                    return;
                }
                round.await;
            }
        };
        if timeout(wait, flushed).await.is_err() {
            tracing::warn!("checkpoints were not written before the drain's end");
        }
    }

    async fn run(self: Arc<Self>) {
        let mut keep = interval(KEEP);
        keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.work.notified() => {
                    sleep(GATHER).await;
                    self.save_round().await;
                }
                _ = keep.tick() => self.keep_round().await,
            }
        }
    }

    /// Writes what waits, many members in one transaction.
    async fn save_round(&self) {
        let (parts, saves) = self.gather();
        if parts.is_empty() {
            return self.round.notify_waiters();
        }
        let count = saves.len() as u64;
        let outcome = if saves.is_empty() { Ok(Vec::new()) } else { self.store.save(saves).await };
        match outcome {
            Ok(outcomes) => {
                self.metrics.checkpoints.fetch_add(count, Relaxed);
                for part in parts {
                    let fault = outcomes
                        .get(part.saves.clone())
                        .and_then(|own| own.iter().find_map(|outcome| outcome.as_ref().err()))
                        .map(answers::consumer_error);
                    self.saved(part, fault).await;
                }
            }
            Err(error) => {
                self.metrics.saves_failed.fetch_add(1, Relaxed);
                tracing::warn!(%error, "checkpoints could not be written");
                let body = answers::read_error(&error);
                for part in parts {
                    self.put_back(part, body.clone());
                }
                sleep(AWAY_PAUSE).await;
            }
        }
        // There may be more than one round takes.
        self.work.notify_one();
        self.round.notify_waiters();
    }

    /// What is to be written now.
    fn gather(&self) -> (Vec<Part>, Vec<Save>) {
        let (mut parts, mut saves) = (Vec::new(), Vec::new());
        let mut all = self.held();
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        while saves.len() < SAVES_A_ROUND
            && let Some(member) = dirty.pop_front()
        {
            let Some(held) = all.get_mut(&member) else { continue };
            held.queued = false;
            let (progress, answer, release) = match (held.save.take(), held.release.take()) {
                (save, Some((progress, release))) => {
                    drop(save);
                    (progress, None, Some(release))
                }
                (Some((progress, answer)), None) => (progress, Some(answer), None),
                (None, None) => continue,
            };
            held.writing = true;
            held.leaving = release.is_some();
            let start = saves.len();
            held.collect(member, &progress, release, &mut saves);
            parts.push(Part {
                member,
                name: held.name.clone(),
                sharing: held.sharing,
                saves: start..saves.len(),
                progress,
                answer,
                release,
            });
        }
        (parts, saves)
    }

    /// A part of a round is in the store, or was refused.
    async fn saved(&self, part: Part, fault: Option<ErrorBody>) {
        let Part { member, name, sharing, progress, answer, release, .. } = part;
        let taken =
            fault.as_ref().is_some_and(|fault| fault.known() == Some(ErrorCode::ConsumerTaken));
        let mut fault = fault;
        if taken && sharing == Sharing::Group && release.is_none() {
            // A part of its share went to another when its lease was over. It may have another.
            if let Some(held) = self.held().get_mut(&member) {
                held.writing = false;
                held.tell_of_shares();
            }
            fault = Some(ErrorCode::Unavailable.into());
        } else if release.is_some() || taken {
            let stays = {
                let mut all = self.held();
                let held = all.remove(&member);
                self.metrics.held.store(all.len() as i64, Relaxed);
                held.is_none_or(|held| held.stays)
            };
            if taken {
                self.metrics.taken.fetch_add(1, Relaxed);
            }
            if sharing == Sharing::Group && !stays {
                self.left(name, member).await;
            }
        } else if let Some(held) = self.held().get_mut(&member) {
            held.writing = false;
            if fault.is_none() {
                held.learn(progress);
            }
        }
        if let Some(answer) = answer {
            // The session may have ended meanwhile.
            let _ = answer.send(fault.map_or(Ok(()), Err));
        }
    }

    /// The store is away: a save is the session's to try again, a release ours.
    fn put_back(&self, part: Part, body: ErrorBody) {
        let mut all = self.held();
        if let Some(held) = all.get_mut(&part.member) {
            held.writing = false;
            if let Some(release) = part.release {
                if held.release_since.elapsed() < RELEASE_TRIES {
                    held.release.get_or_insert((part.progress, release));
                    self.queue(part.member, held);
                } else {
                    tracing::warn!(consumer = %part.name, "gave up writing its last checkpoint");
                    all.remove(&part.member);
                    self.metrics.held.store(all.len() as i64, Relaxed);
                }
            }
        }
        if let Some(answer) = part.answer {
            let _ = answer.send(Err(body));
        }
    }

    /// Renews what is held, and passes on what has happened.
    async fn keep_round(&self) {
        self.release_orphans();
        let holdings: Vec<Holding> = {
            let all = self.held();
            let living = all.iter().filter(|(_, held)| !held.is_leaving() && !held.writing);
            living.map(|(member, held)| held.holding(*member)).collect()
        };
        if holdings.is_empty() {
            return;
        }
        let members: Vec<MemberId> = holdings.iter().map(|holding| holding.member).collect();
        let kept = match self.store.keep(holdings).await {
            Ok(kept) => kept,
            Err(error) => return tracing::debug!(%error, "consumers could not be renewed"),
        };
        let mut all = self.held();
        let mut lost = Vec::new();
        for (member, kept) in members.into_iter().zip(kept) {
            let Some(held) = all.get_mut(&member) else { continue };
            if kept.lost && held.sharing == Sharing::Exclusive {
                lost.push(member);
                continue;
            }
            if (kept.lost || kept.rebalance) && held.tell_of_shares() {
                self.metrics.rebalances.fetch_add(1, Relaxed);
            }
            if !kept.replays.is_empty()
                && held.notices.try_send(Notice::Replay(kept.replays)).is_err()
            {
                // Its next holder is told.
                tracing::debug!(consumer = %held.name, "a replay was not passed on");
            }
        }
        for member in lost {
            all.remove(&member);
            self.metrics.taken.fetch_add(1, Relaxed);
        }
        self.metrics.held.store(all.len() as i64, Relaxed);
    }

    /// Releases what was granted to a session that ended before it heard of it.
    fn release_orphans(&self) {
        let now = Instant::now();
        for (member, held) in self.held().iter_mut() {
            if held.notices.is_closed() && !held.is_leaving() && !held.writing {
                held.release = Some((Progress::default(), Release::Clean));
                held.release_since = now;
                self.queue(*member, held);
            }
        }
    }

    /// Lets go of holders whose consumer is another's now. They hear the end of their news.
    fn drop_taken(&self, all: &mut HashMap<MemberId, Held>, is_taken: impl Fn(&Held) -> bool) {
        let before = all.len();
        all.retain(|_, held| !is_taken(held));
        self.metrics.taken.fetch_add((before - all.len()) as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tidewire_eventstore::{EventStore as _, MemoryStore, Target};

    use super::*;

    #[tokio::test]
    async fn a_claim_that_comes_back_late_takes_nothing_from_a_later_one() {
        let store = MemoryStore::new().consumers();
        let (consumers, keeping) =
            Consumers::start(store.clone(), &Handle::current(), "a".to_owned(), Arc::default());
        let name = ConsumerName::new("mail").expect("a good name");
        let consumer = ConsumerRef { name: name.clone(), sharing: Sharing::Exclusive };
        let claim = async |member| {
            let claim = Claim {
                name: name.clone(),
                sharing: Sharing::Exclusive,
                member,
                node: "a".to_owned(),
                target: Target::All,
                filter: None,
                after: GlobalPosition::START,
            };
            store.claim(claim).await.expect("a grant")
        };
        let [earlier, later] = [MemberId::generate(), MemberId::generate()];
        let (first, second) = (claim(earlier).await, claim(later).await);

        let later = consumers.take_in(consumer.clone(), later, second);
        let earlier = consumers.take_in(consumer.clone(), earlier, first);
        assert!(!later.notices.is_closed(), "the later one holds it");
        drop(earlier);

        let newest = MemberId::generate();
        let third = claim(newest).await;
        let _newest = consumers.take_in(consumer, newest, third);
        assert!(later.notices.is_closed(), "it is told at once that it was taken over");
        keeping.abort();
    }
}
