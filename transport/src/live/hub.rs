//! The groups of one worker's live queries: subscriptions to the same query under the same handle
//! share the frames that are encoded for them.
//!
//! The hub takes what becomes of documents once, finds the groups that it may concern through the
//! [interest index](super::interest), decides for each what it is for its query, encodes that once,
//! and wakes the group's members. It never touches a socket and reads no store: a member looks at
//! the group's log when its socket has room.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use slab::Slab;
use tidewire_eventstore::{Generation, GlobalPosition, ProjectionName};
use tidewire_projections::{ChangeBatch, DocumentChange};
use tidewire_protocol::{
    ErrorBody, QueryReset, Sub,
    query::{Change, Query, Reached},
};

use super::{
    effect::{Effect, Patches, effect, put},
    frames::{self, Encoded, Frames},
    interest::{GroupId, Interest},
    log::{Cursor, Next, Step, StepLog},
    reads::{ChangesPage, StatePage, WindowPage},
    window::Window,
};
use crate::{group::Member, metrics::WorkerMetrics};

/// The fewest mentions of steps at which those of ended groups are looked for.
const AGES_TIDY_AT: usize = 4096;

/// What subscriptions must have in common to share frames.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LiveKey {
    pub(crate) query: Arc<Query>,
    /// The handle, which stands in every frame.
    pub(crate) sub: Sub,
}

/// What a worker is told of a projection.
#[derive(Debug, Clone)]
pub(crate) enum LiveNews {
    /// From here on everything is told. What was before may have been missed.
    From(Reached),
    /// The next changes.
    Batch(Arc<ChangeBatch>),
    /// Everything is to be read anew.
    Swapped(Reached),
}

/// A member's place in a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    group: GroupId,
    member: usize,
}

/// Names a group whose window has to be filled.
#[derive(Debug, Clone)]
pub(crate) struct Wanting {
    group: GroupId,
    serial: u64,
    pub(crate) query: Arc<Query>,
}

/// Whether a reader can follow its group's log.
#[derive(Debug)]
pub(crate) enum Attached {
    /// It follows.
    At(Cursor),
    /// It has to read on.
    Behind,
    /// The worker has not been told yet from where it knows the changes.
    NotYet,
    /// The worker knows another generation as the active one: this.
    Elsewhere(Generation),
}

/// A window, as a new reader is given it.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) frames: Frames,
    pub(crate) reached: Reached,
    pub(crate) cursor: Cursor,
}

struct Group<M> {
    key: LiveKey,
    /// Tells this group from an earlier one with the same id.
    serial: u64,
    log: StepLog,
    members: Slab<Rc<M>>,
    window: Option<Window>,
    /// Somebody waits for its window.
    awaited: bool,
    /// Why its window could not be filled.
    failed: Option<ErrorBody>,
    /// The changes of the batch at hand that may concern it, by index.
    concerned: Vec<u32>,
    shown: Vec<(Option<QueryReset>, Reached, Frames)>,
    states: Encoded<StatePage, Option<QueryReset>>,
    changes: Encoded<ChangesPage, ()>,
}

/// The groups of one projection.
#[derive(Default)]
struct Groups {
    interest: Interest,
    all: HashSet<GroupId>,
    /// Everything through here was told; none: nothing was said yet.
    reached: Option<Reached>,
    /// Raised whenever everything has to be read anew.
    era: u64,
    /// That its generation is active was learnt from the store, before it was told.
    learnt: bool,
    /// The groups whose windows wait for the projection to come as far as what fills them.
    settling: Vec<GroupId>,
}

/// The live queries of one worker.
pub(crate) struct LiveHub<M> {
    projections: HashMap<ProjectionName, Groups>,
    groups: Slab<Group<M>>,
    by_key: HashMap<LiveKey, GroupId>,
    serials: u64,
    /// The groups whose logs have steps, a mention a step, oldest first.
    ages: VecDeque<(GroupId, u64)>,
    ages_tidy_at: usize,
    log_bytes: usize,
    log_bytes_max: usize,
    metrics: Arc<WorkerMetrics>,
}

impl<M: Member> LiveHub<M> {
    pub(crate) fn new(log_bytes_max: usize, metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            projections: HashMap::new(),
            groups: Slab::new(),
            by_key: HashMap::new(),
            serials: 0,
            ages: VecDeque::new(),
            ages_tidy_at: AGES_TIDY_AT,
            log_bytes: 0,
            log_bytes_max,
            metrics,
        }
    }

    /// Seats `member` in the group of `key`, which is made if need be. Also, whether the worker
    /// has to begin to follow the projection.
    pub(crate) fn join(&mut self, key: LiveKey, member: Rc<M>) -> (Seat, bool) {
        let name = key.query.projection.clone();
        let follows = !self.projections.contains_key(&name);
        let group = match self.by_key.get(&key) {
            Some(group) => *group,
            None => {
                let groups = self.projections.entry(name).or_default();
                self.serials += 1;
                let floor = groups.reached.map(|reached| reached.position).unwrap_or_default();
                let group = self.groups.insert(Group {
                    key: key.clone(),
                    serial: self.serials,
                    log: StepLog::new(floor),
                    members: Slab::new(),
                    window: Window::of(&key.query),
                    awaited: false,
                    failed: None,
                    concerned: Vec::new(),
                    shown: Vec::new(),
                    states: Encoded::default(),
                    changes: Encoded::default(),
                });
                groups.interest.add(&key.query, group);
                groups.all.insert(group);
                self.by_key.insert(key, group);
                self.metrics.live_groups.fetch_add(1, Relaxed);
                group
            }
        };
        self.metrics.live_queries.fetch_add(1, Relaxed);
        (Seat { group, member: self.groups[group].members.insert(member) }, follows)
    }

    /// Gives a seat up. The group ends with its last member. Returns the projection that the
    /// worker need not follow any more.
    pub(crate) fn leave(&mut self, seat: Seat) -> Option<ProjectionName> {
        self.metrics.live_queries.fetch_sub(1, Relaxed);
        let group = &mut self.groups[seat.group];
        group.members.remove(seat.member);
        if !group.members.is_empty() {
            return None;
        }
        let mut group = self.groups.remove(seat.group);
        self.metrics.live_groups.fetch_sub(1, Relaxed);
        let bytes = group.log.restart(GlobalPosition::START);
        self.freed(bytes);
        self.by_key.remove(&group.key);
        let name = group.key.query.projection.clone();
        let groups = self.projections.get_mut(&name)?;
        groups.interest.remove(&group.key.query, seat.group);
        groups.all.remove(&seat.group);
        groups.settling.retain(|settling| *settling != seat.group);
        if !groups.all.is_empty() {
            return None;
        }
        self.projections.remove(&name);
        Some(name)
    }

    /// Which era of the projection it is: in another, everything has to be read anew.
    pub(crate) fn era(&self, seat: Seat) -> u64 {
        self.of(seat).era
    }

    /// Lets a reader follow that holds the picture of `reached`, if nothing is missing.
    pub(crate) fn attach(&self, seat: Seat, held: Reached) -> Attached {
        let Some(reached) = self.of(seat).reached else { return Attached::NotYet };
        if reached.generation != held.generation {
            return Attached::Elsewhere(reached.generation);
        }
        let attached = self.groups[seat.group].log.attach(held.position);
        attached.map_or(Attached::Behind, Attached::At)
    }

    /// See [`StepLog::next`].
    pub(crate) fn next(
        &self,
        seat: Seat,
        cursor: &mut Cursor,
        position: GlobalPosition,
    ) -> Next<'_> {
        self.groups[seat.group].log.next(cursor, position)
    }

    /// A step without patches, for one reader who holds the picture of a position inside it.
    pub(crate) fn plain(&self, seat: Seat, step: &Step) -> Bytes {
        let changes = step.plain.as_deref().unwrap_or_default();
        let sub = self.groups[seat.group].key.sub;
        frames::joined(&frames::changes(sub, step.position, changes))
    }

    /// Through where whoever has all of the group's steps holds its picture.
    pub(crate) fn scanned(&self, seat: Seat) -> GlobalPosition {
        let reached = self.of(seat).reached.map(|reached| reached.position).unwrap_or_default();
        match &self.groups[seat.group].window {
            Some(window) if !window.is_known() => window.shown_at().unwrap_or_default(),
            _ => reached,
        }
    }

    /// The documents of a group's window, where it is known; else whether it has to be filled.
    pub(crate) fn window(
        &mut self,
        seat: Seat,
        reset: Option<QueryReset>,
    ) -> Result<Shown, Option<Wanting>> {
        let groups = &self.projections[&self.groups[seat.group].key.query.projection];
        let Some(now) = groups.reached else { return Err(None) };
        let group = &mut self.groups[seat.group];
        let Some(window) = &mut group.window else { return Err(None) };
        if !window.is_known() {
            group.awaited = true;
            return Err(wanting(seat.group, group, now.position));
        }
        let cursor = group.log.end();
        if let Some((_, reached, frames)) = group.shown.iter().find(|(with, ..)| *with == reset) {
            return Ok(Shown { frames: frames.clone(), reached: *reached, cursor });
        }
        let frames = frames::state(group.key.sub, now, reset, &window.shown(), false);
        group.shown.push((reset, now, frames.clone()));
        Ok(Shown { frames, reached: now, cursor })
    }

    /// Why the group's window could not be filled, if it could not.
    pub(crate) fn failure(&self, seat: Seat) -> Option<ErrorBody> {
        self.groups[seat.group].failed.clone()
    }

    /// What was read to fill a window has come. Returns the groups whose windows have to be
    /// filled, which may be the same again.
    pub(crate) fn filled(
        &mut self,
        wanting: &Wanting,
        read: &Result<Arc<WindowPage>, ErrorBody>,
    ) -> Vec<Wanting> {
        let mut wanted = match read {
            Ok(page) => {
                let (generation, position) = (page.generation, page.fill.position);
                self.learn(&wanting.query.projection, Reached { generation, position })
            }
            Err(_) => Vec::new(),
        };
        let Some(group) = self.groups.get_mut(wanting.group) else { return wanted };
        let groups = self.projections.get_mut(&wanting.query.projection);
        let (Some(window), Some(groups)) = (&mut group.window, groups) else { return wanted };
        if group.serial != wanting.serial {
            return wanted;
        }
        match (read, groups.reached) {
            (Ok(page), Some(now)) if page.generation == now.generation => {
                window.filled(&page.fill, now.position);
                if !window.is_known() && !window.needs_fill() {
                    groups.settling.push(wanting.group);
                }
                self.show(wanting.group, now.position, &mut wanted);
            }
            (Ok(_), _) => {
                window.restart();
                window.fill_failed();
                let position = groups.reached.map(|reached| reached.position);
                wanted.extend(self::wanting(wanting.group, group, position.unwrap_or_default()));
            }
            (Err(error), _) => {
                window.fill_failed();
                group.failed = Some(error.clone());
                self.wake(wanting.group);
            }
        }
        wanted
    }

    /// The frames of a page of a state.
    pub(crate) fn state_frames(
        &mut self,
        seat: Seat,
        page: &Arc<StatePage>,
        reset: Option<QueryReset>,
    ) -> Frames {
        let group = &mut self.groups[seat.group];
        let (sub, documents) = (group.key.sub, &page.documents);
        group.states.get(page, reset, || {
            frames::state(sub, page.reached, reset, documents, page.next.is_some())
        })
    }

    /// The frames of a page of changes; none where it has nothing for this group.
    pub(crate) fn changes_frames(&mut self, seat: Seat, page: &Arc<ChangesPage>) -> Option<Frames> {
        let group = &mut self.groups[seat.group];
        let LiveKey { query, sub } = &group.key;
        let told = |change: &DocumentChange| {
            let put_now = || change.after.as_ref().map(|after| put(&change.key, after));
            match effect(query, change)? {
                Effect::Delete => Some(Change::Delete { key: change.key.clone() }),
                Effect::Put | Effect::Update => put_now(),
            }
        };
        let encode = |changes: &[Change]| {
            let none: Frames = Rc::new([]);
            if changes.is_empty() { none } else { frames::changes(*sub, page.through, changes) }
        };
        let frames = match &query.key {
            Some(key) => {
                let change = page.by_key.get(key).map(|index| &page.changes[*index]);
                encode(&change.and_then(told).into_iter().collect::<Vec<_>>())
            }
            None => group.changes.get(page, (), || {
                encode(&page.changes.iter().filter_map(told).collect::<Vec<_>>())
            }),
        };
        (!frames.is_empty()).then_some(frames)
    }

    /// Learns from the store that a generation is active, if it is newer than the one that is
    /// known. Returns the groups whose windows have to be filled.
    pub(crate) fn learn(&mut self, name: &ProjectionName, active: Reached) -> Vec<Wanting> {
        let Some(groups) = self.projections.get_mut(name) else { return Vec::new() };
        match groups.reached {
            Some(known) if active.generation > known.generation => {
                groups.learnt = true;
                self.begin_anew(name, active)
            }
            _ => Vec::new(),
        }
    }

    /// Takes news of a projection. Returns the groups whose windows have to be filled.
    pub(crate) fn told(&mut self, name: &ProjectionName, news: &LiveNews) -> Vec<Wanting> {
        let Some(groups) = self.projections.get_mut(name) else { return Vec::new() };
        let same = |reached: &Reached| {
            groups.reached.is_some_and(|known| known.generation == reached.generation)
        };
        match news {
            LiveNews::From(reached) if groups.reached.is_none() || same(reached) => {
                self.told_from(name, *reached)
            }
            LiveNews::Swapped(reached) if groups.learnt && same(reached) => {
                groups.learnt = false;
                self.told_from(name, *reached)
            }
            LiveNews::From(reached) | LiveNews::Swapped(reached) => {
                groups.learnt = false;
                self.begin_anew(name, *reached)
            }
            LiveNews::Batch(batch) => {
                let reached = Reached { generation: batch.generation, position: batch.after };
                let mut wanted = self.learn(name, reached);
                wanted.extend(self.batch(name, batch));
                wanted
            }
        }
    }

    /// From here on everything is told of the generation that is known.
    fn told_from(&mut self, name: &ProjectionName, reached: Reached) -> Vec<Wanting> {
        let known = self.projections.get(name).and_then(|groups| groups.reached);
        if known.is_some_and(|known| known.position >= reached.position) {
            return Vec::new();
        }
        if known.is_some() {
            self.metrics.live_restarts.fetch_add(1, Relaxed);
        }
        self.restart(name, reached)
    }

    fn batch(&mut self, name: &ProjectionName, batch: &Arc<ChangeBatch>) -> Vec<Wanting> {
        let Some(groups) = self.projections.get_mut(name) else { return Vec::new() };
        // Without that, it will be told from where.
        let Some(known) = groups.reached else { return Vec::new() };
        let reached = Reached { generation: batch.generation, position: batch.position };
        if reached.generation != known.generation || reached.position <= known.position {
            return Vec::new();
        }
        if batch.after != known.position {
            self.metrics.live_restarts.fetch_add(1, Relaxed);
            // What it says is told again by the store.
            return self.restart(name, reached);
        }
        groups.reached = Some(reached);
        let mut touched = Vec::new();
        for (index, change) in (0..).zip(&batch.changes) {
            groups.interest.of(change, |id| {
                let concerned = &mut self.groups[id].concerned;
                if concerned.is_empty() {
                    touched.push(id);
                }
                if concerned.last() != Some(&index) {
                    concerned.push(index);
                }
            });
        }
        let patches = Patches::of(batch);
        let mut wanted = Vec::new();
        for id in touched {
            let group = &mut self.groups[id];
            let mut concerned = std::mem::take(&mut group.concerned);
            match &mut group.window {
                Some(window) => {
                    window.take(batch, &concerned);
                    window.settle(batch.position);
                    self.show(id, batch.position, &mut wanted);
                }
                None => {
                    let (mut told, mut plain) = (Vec::new(), Vec::new());
                    let mut patched = false;
                    for index in concerned.iter().map(|index| *index as usize) {
                        let change = &batch.changes[index];
                        let Some(effect) = effect(&group.key.query, change) else { continue };
                        let (change, without) = patches.told(index, change, effect);
                        patched |= without.is_some();
                        plain.push(without.unwrap_or_else(|| change.clone()));
                        told.push(change);
                    }
                    let plain = patched.then(|| plain.into_boxed_slice());
                    self.publish(id, batch.after, batch.position, &told, plain);
                }
            }
            concerned.clear();
            self.groups[id].concerned = concerned;
        }
        self.settle(name, batch.position, &mut wanted);
        self.evict();
        wanted
    }

    /// Windows that waited for the projection to come to `position` may be known now.
    fn settle(
        &mut self,
        name: &ProjectionName,
        position: GlobalPosition,
        wanted: &mut Vec<Wanting>,
    ) {
        let Some(groups) = self.projections.get_mut(name) else { return };
        for id in std::mem::take(&mut groups.settling) {
            let Some(window) = &mut self.groups[id].window else { continue };
            window.settle(position);
            if window.is_known() || window.needs_fill() {
                self.show(id, position, wanted);
            } else if let Some(groups) = self.projections.get_mut(name) {
                groups.settling.push(id);
            }
        }
    }

    /// Shows the window of a group, if it is known now, and asks for it to be filled if it has to
    /// be.
    fn show(&mut self, id: GroupId, position: GlobalPosition, wanted: &mut Vec<Wanting>) {
        let group = &mut self.groups[id];
        let Some(window) = &mut group.window else { return };
        if !window.is_known() {
            wanted.extend(wanting(id, group, position));
            return;
        }
        let before = window.shown_at();
        let changes = window.show(position);
        if std::mem::take(&mut group.awaited) {
            self.wake(id);
        }
        self.publish(id, before.unwrap_or_default(), position, &changes, None);
    }

    /// Adds a step to a group's log, if it is one, and wakes the group's members.
    fn publish(
        &mut self,
        id: GroupId,
        after: GlobalPosition,
        position: GlobalPosition,
        changes: &[Change],
        plain: Option<Box<[Change]>>,
    ) {
        if changes.is_empty() {
            return;
        }
        let group = &mut self.groups[id];
        group.shown.clear();
        let frames = frames::joined(&frames::changes(group.key.sub, position, changes));
        self.metrics.encoded_bytes.fetch_add(frames.len() as u64, Relaxed);
        let changes = changes.len() as u32;
        let step = Step { after, position, changes, frames, plain };
        self.log_bytes += step.bytes();
        self.metrics.live_log_bytes.fetch_add(step.bytes() as i64, Relaxed);
        group.log.push(step);
        self.ages.push_back((id, group.serial));
        self.wake(id);
    }

    /// Everybody has to read the store from where they are: what was told up to `reached` was
    /// missed.
    fn restart(&mut self, name: &ProjectionName, reached: Reached) -> Vec<Wanting> {
        let Some(groups) = self.projections.get_mut(name) else { return Vec::new() };
        groups.reached = Some(reached);
        groups.settling.clear();
        let (mut wanted, mut freed) = (Vec::new(), 0);
        for id in &groups.all {
            let group = &mut self.groups[*id];
            match &mut group.window {
                // What it shows remains, until it is known what it should show.
                Some(window) => {
                    window.restart();
                    wanted.extend(wanting(*id, group, reached.position));
                }
                None => freed += group.log.restart(reached.position),
            }
            for (_, member) in &group.members {
                member.wake();
            }
        }
        self.freed(freed);
        wanted
    }

    /// Everybody has to read everything anew.
    fn begin_anew(&mut self, name: &ProjectionName, reached: Reached) -> Vec<Wanting> {
        let Some(groups) = self.projections.get_mut(name) else { return Vec::new() };
        groups.era += 1;
        let mut freed = 0;
        for id in &groups.all {
            let group = &mut self.groups[*id];
            group.shown.clear();
            freed += group.log.restart(reached.position);
            if let Some(window) = &mut group.window {
                window.forget();
            }
        }
        self.freed(freed);
        self.restart(name, reached)
    }

    fn of(&self, seat: Seat) -> &Groups {
        &self.projections[&self.groups[seat.group].key.query.projection]
    }

    fn wake(&self, id: GroupId) {
        for (_, member) in &self.groups[id].members {
            member.wake();
        }
    }

    /// Forgets the oldest steps until the logs are within their budget.
    fn evict(&mut self) {
        while self.log_bytes > self.log_bytes_max {
            let Some((id, serial)) = self.ages.pop_front() else { break };
            let Some(group) = self.groups.get_mut(id) else { continue };
            if group.serial == serial
                && let Some(bytes) = group.log.evict()
            {
                self.freed(bytes);
            }
        }
        if self.ages.len() > self.ages_tidy_at {
            let groups = &self.groups;
            self.ages.retain(|(id, serial)| {
                groups.get(*id).is_some_and(|group| group.serial == *serial)
            });
            self.ages_tidy_at = AGES_TIDY_AT.max(self.ages.len() * 2);
        }
    }

    fn freed(&mut self, bytes: usize) {
        self.log_bytes -= bytes;
        self.metrics.live_log_bytes.fetch_sub(bytes as i64, Relaxed);
    }
}

/// Says that a group's window has to be filled, if it has, and that this is seen to; `position`:
/// every change after it will be told.
fn wanting<M>(id: GroupId, group: &mut Group<M>, position: GlobalPosition) -> Option<Wanting> {
    let window = group.window.as_mut().filter(|window| window.needs_fill())?;
    window.filling(position);
    group.failed = None;
    Some(Wanting { group: id, serial: group.serial, query: group.key.query.clone() })
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
