//! A model of what the log keeps of consumers, and of what really happened to their events.
//!
//! Every save is held against the truth: no checkpoint passes an event that no application has
//! settled and that is not parked, no event is charged more often than it gave cause to, and
//! nothing is parked whose attempts are not spent unless an application said so.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tidewire_eventstore::{ConsumerName, GlobalPosition, Partition, RecordedEvent, Sharing};
use tidewire_protocol::{ClaimRequest, Grant, GrantedPartition, Progress};

/// How long a member of a group lives without a sign.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// Whose events they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Audience {
    /// Those of a consumer, whoever holds it.
    Consumer(ConsumerName),
    /// Those of one subscription of one run of a client.
    Own { run: u64, sub: u32 },
}

/// What really happened.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Events whose effect an application has done, or did not want.
    pub(crate) done: BTreeSet<GlobalPosition>,
    /// Events that an application wanted parked.
    pub(crate) put_aside: BTreeSet<GlobalPosition>,
    /// How often each event gave cause to be charged.
    pub(crate) causes: BTreeMap<GlobalPosition, u32>,
}

/// One partition of a consumer.
#[derive(Debug, Default)]
struct Part {
    owner: Option<u64>,
    fence: u64,
    checkpoint: GlobalPosition,
    unclean: bool,
    attempts: Vec<(GlobalPosition, u32)>,
    parked: BTreeMap<GlobalPosition, u32>,
    /// Parked events that somebody wants again.
    asked: BTreeSet<GlobalPosition>,
    /// Those of them that the present owner was not told of.
    untold: BTreeSet<GlobalPosition>,
}

#[derive(Debug)]
struct Kept {
    claim: ClaimRequest,
    parts: BTreeMap<Partition, Part>,
    members: BTreeMap<u64, Instant>,
}

/// What a member holds.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) name: ConsumerName,
    pub(crate) fences: Vec<(Partition, u64)>,
    pub(crate) rebalancing: bool,
}

/// What a keeper is told of what it holds.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) lost: bool,
    pub(crate) rebalance: bool,
    pub(crate) replays: Vec<(Partition, GlobalPosition, u32)>,
}

/// The fence is stale: somebody else owns the partition.
#[derive(Debug)]
pub(crate) struct Fenced;

/// All consumers.
#[derive(Debug, Default)]
pub(crate) struct Store {
    consumers: BTreeMap<ConsumerName, Kept>,
    pub(crate) truth: BTreeMap<Audience, Truth>,
    pub(crate) max_attempts: u32,
    /// Every event that somebody ever wanted again.
    wanted_again: BTreeSet<(ConsumerName, GlobalPosition)>,
    pub(crate) parked: u64,
    pub(crate) replayed: u64,
}

impl Kept {
    fn wants(&self, event: &RecordedEvent, partition: Partition) -> bool {
        let stream = tidewire_eventstore::StreamHash::of(&event.stream);
        self.claim.feed.target.includes(&event.stream)
            && self.claim.feed.filter.as_ref().is_none_or(|filter| filter.matches(event))
            && self.claim.consumer.sharing.partition(stream) == partition
    }

    fn expire(&mut self, now: Instant) {
        self.members.retain(|_, until| *until > now);
    }

    /// How many partitions a member may hold: the first ones by id one more.
    fn quota(&self, member: u64) -> usize {
        let members = self.members.len().max(1);
        let rank = self.members.keys().take_while(|id| **id < member).count();
        self.parts.len() / members + usize::from(rank < self.parts.len() % members)
    }

    fn free(&self) -> Vec<Partition> {
        let is_free =
            |part: &Part| part.owner.is_none_or(|owner| !self.members.contains_key(&owner));
        self.parts.iter().filter(|(_, part)| is_free(part)).map(|(at, _)| *at).collect()
    }
}

impl Store {
    pub(crate) fn truth(&mut self, audience: &Audience) -> &mut Truth {
        self.truth.entry(audience.clone()).or_default()
    }

    pub(crate) fn claim(
        &mut self,
        member: u64,
        claim: &ClaimRequest,
        now: Instant,
    ) -> (Grant, Held) {
        let name = claim.consumer.name.clone();
        let existed = self.consumers.contains_key(&name);
        let kept = self.consumers.entry(name.clone()).or_insert_with(|| {
            let partitions: Vec<Partition> = match claim.consumer.sharing {
                Sharing::Exclusive => vec![Partition::FIRST],
                Sharing::Group => (0..64).filter_map(Partition::new).collect(),
            };
            let part = || Part { checkpoint: claim.after, ..Part::default() };
            let parts = partitions.into_iter().map(|partition| (partition, part())).collect();
            Kept { claim: claim.clone(), parts, members: BTreeMap::new() }
        });
        let mine = match claim.consumer.sharing {
            Sharing::Exclusive => vec![Partition::FIRST],
            Sharing::Group => {
                kept.expire(now);
                kept.members.insert(member, now + LEASE);
                let quota = kept.quota(member);
                kept.free().into_iter().take(quota).collect()
            }
        };
        let mut grant = Grant { existed, partitions: Vec::new() };
        let mut fences = Vec::new();
        for partition in mine {
            let part = kept.parts.get_mut(&partition).expect("all are there");
            let unclean = part.owner.is_some() || part.unclean;
            part.owner = Some(member);
            part.unclean = false;
            part.fence += 1;
            part.untold.clear();
            fences.push((partition, part.fence));
            let charges = |at: &GlobalPosition| (*at, part.parked.get(at).copied().unwrap_or(0));
            grant.partitions.push(GrantedPartition {
                partition,
                checkpoint: part.checkpoint,
                unclean,
                attempts: part.attempts.clone(),
                replays: part.asked.iter().map(charges).collect(),
            });
        }
        (grant, Held { name, fences, rebalancing: false })
    }

    /// Saves what is not fenced off. `release` says whether the end is clean.
    pub(crate) fn save(
        &mut self,
        member: u64,
        held: &Held,
        progress: &Progress,
        release: Option<bool>,
        log: &[RecordedEvent],
    ) -> Result<(), Fenced> {
        let name = &held.name;
        let truth = self.truth.entry(Audience::Consumer(name.clone())).or_default();
        let kept = self.consumers.get_mut(name).expect("it was claimed");
        let mut fenced = Ok(());
        for of in &progress.partitions {
            let fence = held.fences.iter().find(|(at, _)| *at == of.partition);
            let part = kept.parts.get_mut(&of.partition).expect("all are there");
            if part.owner != Some(member) || fence.map(|(_, fence)| *fence) != Some(part.fence) {
                fenced = Err(Fenced);
                continue;
            }
            assert!(of.checkpoint >= part.checkpoint, "{name}: the checkpoint moves back");
            for (position, charges) in &of.attempts {
                let causes = truth.causes.get(position).copied().unwrap_or(0);
                assert!(
                    *charges <= causes,
                    "{name}: {position} is charged {charges}, not {causes}"
                );
            }
            for parked in &of.parked {
                let at = parked.position;
                let causes = truth.causes.get(&at).copied().unwrap_or(0);
                let spent = parked.attempts >= self.max_attempts && parked.attempts <= causes;
                assert!(
                    spent || truth.put_aside.contains(&at),
                    "{name}: {at} is parked after {} of {causes} attempts",
                    parked.attempts
                );
            }
            for position in &of.replayed {
                // Saved before, and only the answer was lost: then it is not there any more.
                if part.parked.remove(position).is_some() {
                    self.replayed += 1;
                    let again = of.parked.iter().any(|parked| parked.position == *position);
                    assert!(
                        again || truth.done.contains(position),
                        "{name}: the replay of {position} is over, and nobody has settled it"
                    );
                }
                part.asked.remove(position);
                part.untold.remove(position);
            }
            for parked in &of.parked {
                self.parked += 1;
                part.parked.insert(parked.position, parked.attempts);
                // A replay that came to nothing is over, too.
                part.asked.remove(&parked.position);
                part.untold.remove(&parked.position);
            }
            part.attempts.clone_from(&of.attempts);
            let passed = part.checkpoint.get() as usize..of.checkpoint.get() as usize;
            let parked = part.parked.clone();
            part.checkpoint = of.checkpoint;
            if let Some(clean) = release {
                part.owner = None;
                part.unclean = !clean;
            }
            for event in log[passed].iter().filter(|event| kept.wants(event, of.partition)) {
                assert!(
                    truth.done.contains(&event.position) || parked.contains_key(&event.position),
                    "{name}: the checkpoint passes {}, which nobody has settled",
                    event.position
                );
            }
        }
        if release.is_some() {
            kept.members.remove(&member);
        }
        fenced
    }

    /// A sign of life of a member.
    pub(crate) fn keep(&mut self, member: u64, held: &Held, now: Instant) -> News {
        let kept = self.consumers.get_mut(&held.name).expect("it was claimed");
        let mut news = News::default();
        if kept.claim.consumer.sharing == Sharing::Group {
            kept.expire(now);
            kept.members.insert(member, now + LEASE);
        }
        for (partition, fence) in &held.fences {
            let part = kept.parts.get_mut(partition).expect("all are there");
            if part.owner != Some(member) || part.fence != *fence {
                news.lost = true;
                continue;
            }
            for position in std::mem::take(&mut part.untold) {
                let charges = part.parked.get(&position).copied().unwrap_or(0);
                news.replays.push((*partition, position, charges));
            }
        }
        if kept.claim.consumer.sharing == Sharing::Group {
            let (quota, holds) = (kept.quota(member), held.fences.len());
            news.rebalance = holds > quota || (holds < quota && !kept.free().is_empty());
        }
        news
    }

    /// An operator wants everything that is parked delivered again.
    pub(crate) fn replay(&mut self) {
        for (name, kept) in &mut self.consumers {
            for part in kept.parts.values_mut() {
                for position in part.parked.keys() {
                    self.wanted_again.insert((name.clone(), *position));
                    if part.asked.insert(*position) {
                        part.untold.insert(*position);
                    }
                }
            }
        }
    }

    /// Whether an operator ever wanted a parked event delivered again.
    pub(crate) fn was_replayed(&self, audience: &Audience, position: GlobalPosition) -> bool {
        match audience {
            Audience::Consumer(name) => self.wanted_again.contains(&(name.clone(), position)),
            Audience::Own { .. } => false,
        }
    }

    /// What keeps the consumers from being done with the log, if anything.
    pub(crate) fn undone(&self, log: &[RecordedEvent]) -> Option<String> {
        for (name, kept) in &self.consumers {
            let truth = self.truth.get(&Audience::Consumer(name.clone()));
            for (partition, part) in &kept.parts {
                if let Some(at) = part.asked.first() {
                    return Some(format!("{name}: the replay of {at} is not settled"));
                }
                let settled = |event: &RecordedEvent| {
                    part.parked.contains_key(&event.position)
                        || truth.is_some_and(|truth| truth.done.contains(&event.position))
                };
                let mut events = log.iter().filter(|event| {
                    event.position > kept.claim.after && kept.wants(event, *partition)
                });
                if let Some(lost) = events.clone().find(|event| !settled(event)) {
                    return Some(format!("{name}: {} is not settled", lost.position));
                }
                let last = events.next_back().map_or(GlobalPosition::START, |event| event.position);
                if part.checkpoint < last {
                    let checkpoint = part.checkpoint;
                    return Some(format!("{name}: checkpoint {checkpoint}, last event {last}"));
                }
            }
        }
        None
    }
}
