//! Durable consumers of the memory store: as durable as the rest of it.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use tokio::time::Instant;

use super::{Log, reading};
use crate::{
    BoxFuture, ConsumerName, EventType, GlobalPosition, Limits, PARTITIONS, Partition, ReadError,
    Sharing, StreamName, Target, Timestamp,
    consumer::{
        CONSUMERS_PAGE_MAX, Claim, Claimed, ClaimedPartition, ConsumerError, ConsumerInfo,
        ConsumerStore, Fence, Holder, Holding, Kept, MemberId, NODE_BYTES_MAX, PARKED_PAGE_MAX,
        ParkedInfo, ParkedPage, Positions, REPLAYS_TOLD_MAX, Release, Save,
        progress::tidy,
        shares::{self, Owners, Shares},
    },
};

/// The consumers of a memory store.
#[derive(Debug)]
pub(super) struct MemoryConsumers {
    limits: Limits,
    log: Arc<RwLock<Log>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    consumers: BTreeMap<ConsumerName, Consumer>,
    /// The highest fence of the consumers that were deleted.
    fence: u64,
}

#[derive(Debug)]
struct Consumer {
    sharing: Sharing,
    target: Target,
    filter: Option<String>,
    created_at: Timestamp,
    members: BTreeMap<MemberId, Member>,
    partitions: BTreeMap<Partition, Row>,
    parked: BTreeMap<GlobalPosition, ParkedRow>,
}

#[derive(Debug)]
struct Member {
    node: String,
    lease_until: Instant,
}

/// A partition.
#[derive(Debug)]
struct Row {
    owner: Option<MemberId>,
    fence: u64,
    checkpoint: GlobalPosition,
    /// Whether the present or last owner has not let go of it in order.
    unclean: bool,
    attempts: Vec<(GlobalPosition, u32)>,
}

#[derive(Debug)]
struct ParkedRow {
    partition: Partition,
    attempts: u32,
    reason: String,
    parked_at: Timestamp,
    replaying: bool,
    /// The fence of the claim that was told to deliver it again.
    told: Option<u64>,
}

impl Consumer {
    fn new(claim: &Claim, fence: u64) -> Self {
        let row = || Row {
            owner: None,
            fence,
            checkpoint: claim.after,
            unclean: false,
            attempts: Vec::new(),
        };
        let partitions = shares::partitions_of(claim.sharing);
        Self {
            sharing: claim.sharing,
            target: claim.target.clone(),
            filter: claim.filter.clone(),
            created_at: Timestamp::now(),
            members: BTreeMap::new(),
            partitions: partitions.iter().map(|partition| (partition, row())).collect(),
            parked: BTreeMap::new(),
        }
    }

    /// Members go, and what they owned is free.
    fn remove_members(&mut self, goes: impl Fn(MemberId, &Member) -> bool) {
        self.members.retain(|id, member| !goes(*id, member));
        for row in self.partitions.values_mut() {
            row.owner.take_if(|owner| !self.members.contains_key(owner));
        }
    }

    fn owners(&self) -> Owners {
        let mut owners = [None; PARTITIONS];
        for (partition, row) in &self.partitions {
            owners[usize::from(partition.get())] = row.owner;
        }
        owners
    }

    /// Whose lease runs.
    fn members(&self, now: Instant) -> Vec<MemberId> {
        let alive = self.members.iter().filter(|(_, member)| member.lease_until > now);
        alive.map(|(id, _)| *id).collect()
    }

    fn claim(
        &mut self,
        claim: Claim,
        limits: &Limits,
    ) -> Result<Vec<ClaimedPartition>, ConsumerError> {
        shares::check_same(&claim, self.sharing, &self.target, self.filter.as_deref())?;
        let now = Instant::now();
        let me = claim.member;
        let exclusive = self.sharing == Sharing::Exclusive;
        self.remove_members(|id, member| id != me && (exclusive || member.lease_until <= now));
        let max = limits.consumer_members_max;
        if !self.members.contains_key(&me) && self.members.len() >= max {
            return Err(ConsumerError::TooManyMembers { max });
        }
        let node = tidy(claim.node, NODE_BYTES_MAX);
        self.members.insert(me, Member { node, lease_until: now + limits.consumer_lease });
        let claimed = if exclusive {
            shares::partitions_of(self.sharing)
        } else {
            Shares { members: &self.members(now), owners: &self.owners() }.claimed_by(me)
        };
        for (partition, row) in &mut self.partitions {
            row.owner.take_if(|owner| *owner == me && !claimed.contains(*partition));
        }
        Ok(claimed.iter().filter_map(|partition| self.hand_over(partition, me)).collect())
    }

    fn hand_over(&mut self, partition: Partition, to: MemberId) -> Option<ClaimedPartition> {
        let row = self.partitions.get_mut(&partition)?;
        row.fence += 1;
        row.owner = Some(to);
        let unclean = std::mem::replace(&mut row.unclean, true);
        let fence = row.fence;
        let (checkpoint, attempts) = (row.checkpoint, row.attempts.clone());
        let replays = self.tell_replays(partition, fence);
        let fence = Fence::new(fence);
        Some(ClaimedPartition { partition, fence, checkpoint, unclean, attempts, replays })
    }

    /// The replays that the claim with `fence` is to be told now.
    fn tell_replays(&mut self, partition: Partition, fence: u64) -> Vec<(GlobalPosition, u32)> {
        let rows = self.parked.iter_mut();
        let mut replaying: Vec<_> =
            rows.filter(|(_, row)| row.replaying && row.partition == partition).collect();
        let told = replaying.iter().filter(|(_, row)| row.told == Some(fence)).count();
        let untold = replaying.iter_mut().filter(|(_, row)| row.told != Some(fence));
        untold
            .take(REPLAYS_TOLD_MAX.saturating_sub(told))
            .map(|(position, row)| {
                row.told = Some(fence);
                (**position, row.attempts)
            })
            .collect()
    }

    fn save(&mut self, save: Save, parked_max: usize) -> Result<(), ConsumerError> {
        let (member, fence) = (Some(save.member), save.fence.get());
        let mine = |row: &&mut Row| row.owner == member && row.fence == fence;
        let row = self.partitions.get_mut(&save.partition).filter(mine);
        let row = row.ok_or(ConsumerError::Fenced)?;
        if let Some(release) = save.release {
            row.owner = None;
            row.unclean = release == Release::Unclean;
        }
        let is_new = |position: &&GlobalPosition| {
            !self.parked.contains_key(position) || save.replayed.contains(position)
        };
        let goes = |position: &&GlobalPosition| self.parked.contains_key(position);
        let added = save.parked.iter().map(|parked| &parked.position).filter(is_new).count();
        let gone = save.replayed.iter().filter(goes).count();
        if added > gone && self.parked.len() + added - gone > parked_max {
            return Err(ConsumerError::TooManyParked { max: parked_max });
        }
        row.checkpoint = row.checkpoint.max(save.checkpoint);
        row.attempts = save.attempts;
        for position in save.replayed {
            self.parked.remove(&position);
        }
        let parked_at = Timestamp::now();
        for parked in save.parked {
            let row = ParkedRow {
                partition: save.partition,
                attempts: parked.attempts,
                reason: parked.reason,
                parked_at,
                replaying: false,
                told: None,
            };
            self.parked.insert(parked.position, row);
        }
        Ok(())
    }

    /// Renews one lease; whether everything of the holding is still the member's.
    fn renew(&mut self, holding: &Holding, lease_until: Instant) -> bool {
        let Some(member) = self.members.get_mut(&holding.member) else { return false };
        member.lease_until = lease_until;
        holding.partitions.iter().all(|(partition, fence)| {
            self.partitions.get(partition).is_some_and(|row| {
                row.fence == fence.get() && row.owner.is_none_or(|owner| owner == holding.member)
            })
        })
    }

    fn replays_of(&mut self, holding: &Holding) -> Vec<(Partition, GlobalPosition, u32)> {
        let mut replays = Vec::new();
        for (partition, fence) in &holding.partitions {
            let told = self.tell_replays(*partition, fence.get());
            replays.extend(
                told.into_iter().map(|(position, attempts)| (*partition, position, attempts)),
            );
        }
        replays
    }

    fn info(&self, name: &ConsumerName, now: Instant) -> ConsumerInfo {
        let owned = |member: MemberId| {
            let rows = self.partitions.iter();
            rows.filter(|(_, row)| row.owner == Some(member)).map(|(at, _)| *at).collect()
        };
        let alive = self.members.iter().filter(|(_, member)| member.lease_until > now);
        let holder = |(id, member): (&MemberId, &Member)| Holder {
            member: *id,
            node: member.node.clone(),
            partitions: owned(*id),
        };
        let checkpoints = self.partitions.values().map(|row| row.checkpoint);
        ConsumerInfo {
            name: name.clone(),
            sharing: self.sharing,
            target: self.target.clone(),
            filter: self.filter.clone(),
            created_at: self.created_at,
            holders: alive.map(holder).collect(),
            checkpoint: checkpoints.min().unwrap_or_default(),
            parked: self.parked.len() as u64,
        }
    }

    /// The parked events that are meant, in order.
    fn chosen(&self, positions: Positions) -> Result<Vec<GlobalPosition>, ConsumerError> {
        let Some(listed) = positions.into_listed() else {
            return Ok(self.parked.keys().copied().collect());
        };
        let is_missing = |position: &GlobalPosition| !self.parked.contains_key(position);
        let positions: Vec<_> = listed.iter().copied().filter(is_missing).collect();
        if positions.is_empty() { Ok(listed) } else { Err(ConsumerError::NotParked { positions }) }
    }
}

impl MemoryConsumers {
    pub(super) fn new(limits: Limits, log: Arc<RwLock<Log>>) -> Self {
        Self { limits, log, state: Mutex::default() }
    }

    /// Every change under the lock is whole before anything can panic, so a poisoned lock guards
    /// sound data.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        name: &ConsumerName,
        work: impl FnOnce(&mut Consumer) -> Result<T, ConsumerError>,
    ) -> Result<T, ConsumerError> {
        let mut state = self.lock();
        let consumer = state.consumers.get_mut(name);
        work(consumer.ok_or_else(|| ConsumerError::Unknown { name: name.clone() })?)
    }

    fn claim_now(&self, claim: Claim) -> Result<Claimed, ConsumerError> {
        let mut state = self.lock();
        let State { consumers, fence } = &mut *state;
        if let Some(consumer) = consumers.get_mut(&claim.name) {
            let partitions = consumer.claim(claim, &self.limits)?;
            return Ok(Claimed { existed: true, partitions });
        }
        let max = self.limits.consumers_max;
        if consumers.len() >= max {
            return Err(ConsumerError::TooManyConsumers { max });
        }
        let name = claim.name.clone();
        let mut consumer = Consumer::new(&claim, *fence);
        let partitions = consumer.claim(claim, &self.limits)?;
        consumers.insert(name, consumer);
        Ok(Claimed { existed: false, partitions })
    }

    fn save_now(&self, save: Save) -> Result<(), ConsumerError> {
        let max = self.limits.consumer_parked_max;
        let name = save.name.clone();
        let saved = self.with(&name, |consumer| consumer.save(save.tidied(), max));
        // Who holds a consumer that is no more has lost it.
        saved.map_err(|error| match error {
            ConsumerError::Unknown { .. } => ConsumerError::Fenced,
            other => other,
        })
    }

    fn keep_now(&self, held: &[Holding]) -> Vec<Kept> {
        let mut state = self.lock();
        let now = Instant::now();
        let mut kept = Vec::with_capacity(held.len());
        for holding in held {
            let consumer = state.consumers.get_mut(&holding.name);
            let lease_until = now + self.limits.consumer_lease;
            let held = consumer.is_some_and(|consumer| consumer.renew(holding, lease_until));
            kept.push(Kept { lost: !held, ..Kept::default() });
        }
        // All leases are renewed before shares are looked at.
        let mut groups: HashMap<&ConsumerName, (Vec<MemberId>, Owners)> = HashMap::new();
        for (holding, kept) in held.iter().zip(&mut kept).filter(|(_, kept)| !kept.lost) {
            let Some(consumer) = state.consumers.get_mut(&holding.name) else { continue };
            kept.replays = consumer.replays_of(holding);
            if consumer.sharing == Sharing::Group {
                let (members, owners) = groups
                    .entry(&holding.name)
                    .or_insert_with(|| (consumer.members(now), consumer.owners()));
                kept.rebalance = Shares { members, owners }.are_to_change_for(holding.member);
            }
        }
        kept
    }

    fn event(&self, position: GlobalPosition) -> Option<(StreamName, EventType)> {
        let log = reading(&self.log);
        let event = log.events.get(usize::try_from(position.get()).ok()?.checked_sub(1)?)?;
        Some((event.stream.clone(), event.event_type.clone()))
    }

    fn parked_now(
        &self,
        name: &ConsumerName,
        after: GlobalPosition,
        limit: usize,
    ) -> Result<ParkedPage, ConsumerError> {
        let limit = limit.clamp(1, PARKED_PAGE_MAX);
        self.with(name, |consumer| {
            let mut rows = consumer.parked.range((Bound::Excluded(after), Bound::Unbounded));
            let parked = rows
                .by_ref()
                .take(limit)
                .map(|(position, row)| {
                    let (stream, event_type) = self.event(*position).unzip();
                    ParkedInfo {
                        position: *position,
                        stream,
                        event_type,
                        attempts: row.attempts,
                        reason: row.reason.clone(),
                        parked_at: row.parked_at,
                        replaying: row.replaying,
                    }
                })
                .collect();
            Ok(ParkedPage { parked, more: rows.next().is_some() })
        })
    }
}

impl ConsumerStore for MemoryConsumers {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, ConsumerError>> {
        Box::pin(async move { self.claim_now(claim) })
    }

    fn save(
        &self,
        saves: Vec<Save>,
    ) -> BoxFuture<'_, Result<Vec<Result<(), ConsumerError>>, ReadError>> {
        Box::pin(async move { Ok(saves.into_iter().map(|save| self.save_now(save)).collect()) })
    }

    fn keep(&self, held: Vec<Holding>) -> BoxFuture<'_, Result<Vec<Kept>, ReadError>> {
        Box::pin(async move { Ok(self.keep_now(&held)) })
    }

    fn leave(&self, name: ConsumerName, member: MemberId) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(async move {
            if let Some(consumer) = self.lock().consumers.get_mut(&name) {
                consumer.remove_members(|id, _| id == member);
            }
            Ok(())
        })
    }

    fn consumers(
        &self,
        after: Option<ConsumerName>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ConsumerInfo>, ReadError>> {
        Box::pin(async move {
            let now = Instant::now();
            let state = self.lock();
            let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let range = state.consumers.range::<ConsumerName, _>((start, Bound::Unbounded));
            let page = range.take(limit.clamp(1, CONSUMERS_PAGE_MAX));
            Ok(page.map(|(name, consumer)| consumer.info(name, now)).collect())
        })
    }

    fn consumer(&self, name: ConsumerName) -> BoxFuture<'_, Result<ConsumerInfo, ConsumerError>> {
        Box::pin(
            async move { self.with(&name, |consumer| Ok(consumer.info(&name, Instant::now()))) },
        )
    }

    fn delete_consumer(&self, name: ConsumerName) -> BoxFuture<'_, Result<(), ConsumerError>> {
        Box::pin(async move {
            let mut state = self.lock();
            let Some(consumer) = state.consumers.remove(&name) else {
                return Err(ConsumerError::Unknown { name });
            };
            let fences = consumer.partitions.values().map(|row| row.fence);
            state.fence = fences.max().unwrap_or_default().max(state.fence);
            Ok(())
        })
    }

    fn parked(
        &self,
        name: ConsumerName,
        after: GlobalPosition,
        limit: usize,
    ) -> BoxFuture<'_, Result<ParkedPage, ConsumerError>> {
        Box::pin(async move { self.parked_now(&name, after, limit) })
    }

    fn replay(
        &self,
        name: ConsumerName,
        positions: Positions,
    ) -> BoxFuture<'_, Result<u64, ConsumerError>> {
        Box::pin(async move {
            self.with(&name, |consumer| {
                let chosen = consumer.chosen(positions)?;
                for position in &chosen {
                    if let Some(row) = consumer.parked.get_mut(position) {
                        row.replaying = true;
                    }
                }
                Ok(chosen.len() as u64)
            })
        })
    }

    fn drop_parked(
        &self,
        name: ConsumerName,
        positions: Positions,
    ) -> BoxFuture<'_, Result<u64, ConsumerError>> {
        Box::pin(async move {
            self.with(&name, |consumer| {
                let chosen = consumer.chosen(positions)?;
                for position in &chosen {
                    consumer.parked.remove(position);
                }
                Ok(chosen.len() as u64)
            })
        })
    }
}
