//! [`MemoryDocuments`]: documents in memory, for tests and for projections that need not outlive
//! the process.
//!
//! Whatever a store promises holds here, but that anything is durable. Leases run on tokio's clock,
//! so a test that pauses it decides when they end.

mod generation;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tidewire_eventstore::{
    BoxFuture, DocumentKey, Generation, GlobalPosition, ProjectionName, Timestamp,
};
use tokio::time::Instant;
use uuid::Uuid;

use self::generation::GenerationState;
use super::{
    ChangePage, ChangesRead, Commit, DocumentPage, DocumentStore, Fence, Held, NODE_BYTES_MAX,
    Owner, PageRead, Parked, REASON_BYTES_MAX, Status, Stopped, StoreError, StoredDocument, Wish,
    check::{check, cut},
};

/// Documents in memory. Clones share them, as nodes share a database.
#[derive(Debug, Clone, Default)]
pub struct MemoryDocuments {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    /// The last number that a generation or a fence got.
    numbers: u64,
    projections: BTreeMap<ProjectionName, Projection>,
    generations: BTreeMap<Generation, GenerationState>,
}

#[derive(Debug)]
struct Projection {
    active: Generation,
    building: Option<Generation>,
    owner: Option<Lease>,
    fence: Fence,
    wish: Option<Wish>,
}

#[derive(Debug)]
struct Lease {
    id: Uuid,
    node: Arc<str>,
    until: Instant,
    /// The same, as people are told it.
    shown: Timestamp,
}

impl Lease {
    fn new(id: Uuid, node: Arc<str>, lease: Duration) -> Self {
        let mut new = Self { id, node, until: Instant::now(), shown: Timestamp::now() };
        new.begin(lease);
        new
    }

    /// Lets it run from now on.
    fn begin(&mut self, lease: Duration) {
        self.until = Instant::now() + lease;
        let micros = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
        self.shown = Timestamp::from_micros(Timestamp::now().as_micros().saturating_add(micros));
    }

    fn runs(&self) -> bool {
        self.until > Instant::now()
    }
}

impl MemoryDocuments {
    /// A store without projections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers at once what `answer` finds in the state.
    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&mut State) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        Box::pin(async move {
            let mut state = self.lock();
            if state.closed { Err(StoreError::Unavailable) } else { answer(&mut state) }
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn begin(&mut self, name: &ProjectionName, version: u32) -> Generation {
        let generation = Generation::new(self.next_number());
        self.generations.insert(generation, GenerationState::new(name.clone(), version));
        generation
    }

    /// The projection that is held, if it still is.
    fn held(&mut self, held: &Held) -> Result<&mut Projection, StoreError> {
        match self.projections.get_mut(&held.name) {
            Some(found) if found.fence == held.fence && found.owner.is_some() => Ok(found),
            _ => Err(StoreError::Fenced),
        }
    }

    /// A generation that is written under what is held.
    fn written(
        &mut self,
        held: &Held,
        generation: Generation,
    ) -> Result<&mut GenerationState, StoreError> {
        let projection = self.held(held)?;
        if projection.active != generation && projection.building != Some(generation) {
            return Err(StoreError::Conflict);
        }
        self.generations.get_mut(&generation).ok_or(StoreError::Conflict)
    }

    /// A generation that can be read.
    fn read(&self, generation: Generation) -> Result<&GenerationState, StoreError> {
        let found = self.generations.get(&generation).filter(|found| found.is_whole());
        found.ok_or(StoreError::Unknown)
    }

    fn retire(&mut self, generation: Option<Generation>) {
        let generation = generation.and_then(|generation| self.generations.get_mut(&generation));
        if let Some(generation) = generation {
            generation.retired = true;
        }
    }

    fn status(&self, name: &ProjectionName) -> Option<Status> {
        let projection = self.projections.get(name)?;
        let of = |generation| Some(self.generations.get(&generation)?.status(generation));
        Some(Status {
            name: name.clone(),
            active: of(projection.active)?,
            building: projection.building.and_then(of),
            owner: projection
                .owner
                .as_ref()
                .filter(|lease| lease.runs())
                .map(|lease| (Arc::clone(&lease.node), lease.shown)),
            fence: projection.fence,
            wish: projection.wish,
        })
    }

    fn sweep(&mut self, held: &Held, kept: u64, limit: usize) -> Result<bool, StoreError> {
        let active = self.held(held)?.active;
        let mut left = limit.max(1);
        let Self { projections, generations, .. } = self;
        generations.retain(|_, state| {
            let ours = state.projection == held.name;
            if left > 0 && state.retired && (ours || !projections.contains_key(&state.projection)) {
                left -= state.sweep(left);
                return !state.is_empty();
            }
            true
        });
        if let Some(active) = generations.get_mut(&active) {
            left -= active.sweep_tombstones(kept, left);
        }
        Ok(left == 0)
    }
}

impl DocumentStore for MemoryDocuments {
    fn register(
        &self,
        name: &ProjectionName,
        version: u32,
    ) -> BoxFuture<'_, Result<Status, StoreError>> {
        let name = name.clone();
        self.answer(move |state| {
            if !state.projections.contains_key(&name) {
                let active = state.begin(&name, version);
                let projection =
                    Projection { active, building: None, owner: None, fence: Fence(0), wish: None };
                state.projections.insert(name.clone(), projection);
            }
            state.status(&name).ok_or(StoreError::Unknown)
        })
    }

    fn status(&self, name: &ProjectionName) -> BoxFuture<'_, Result<Option<Status>, StoreError>> {
        let name = name.clone();
        self.answer(move |state| Ok(state.status(&name)))
    }

    fn statuses(&self) -> BoxFuture<'_, Result<Vec<Status>, StoreError>> {
        self.answer(|state| {
            Ok(state.projections.keys().filter_map(|name| state.status(name)).collect())
        })
    }

    fn claim(
        &self,
        name: &ProjectionName,
        owner: Owner,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        let name = name.clone();
        self.answer(move |state| {
            let projection = state.projections.get(&name).ok_or(StoreError::Unknown)?;
            if projection.owner.as_ref().is_some_and(|held| held.id != owner.id && held.runs()) {
                return Ok(None);
            }
            let fence = Fence(state.next_number());
            let projection = state.projections.get_mut(&name).ok_or(StoreError::Unknown)?;
            projection.fence = fence;
            let node = cut(&owner.node, NODE_BYTES_MAX).into();
            projection.owner = Some(Lease::new(owner.id, node, lease));
            Ok(Some(fence))
        })
    }

    fn renew(&self, held: &Held, lease: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        let held = held.clone();
        self.answer(move |state| {
            let owner = state.held(&held)?.owner.as_mut().ok_or(StoreError::Fenced)?;
            owner.begin(lease);
            Ok(())
        })
    }

    fn release(&self, held: &Held) -> BoxFuture<'_, Result<(), StoreError>> {
        let held = held.clone();
        self.answer(move |state| {
            if let Ok(projection) = state.held(&held) {
                projection.owner = None;
            }
            Ok(())
        })
    }

    fn begin_generation(
        &self,
        held: &Held,
        version: u32,
    ) -> BoxFuture<'_, Result<Generation, StoreError>> {
        let held = held.clone();
        self.answer(move |state| {
            let given_up = state.held(&held)?.building;
            state.retire(given_up);
            let building = state.begin(&held.name, version);
            state.held(&held)?.building = Some(building);
            Ok(building)
        })
    }

    fn swap(&self, held: &Held, generation: Generation) -> BoxFuture<'_, Result<bool, StoreError>> {
        let held = held.clone();
        self.answer(move |state| {
            let projection = state.held(&held)?;
            if projection.building != Some(generation) {
                return Err(StoreError::Conflict);
            }
            let active = projection.active;
            if state.read(generation)?.checkpoint < state.read(active)?.checkpoint {
                return Ok(false);
            }
            state.retire(Some(active));
            let projection = state.held(&held)?;
            projection.active = generation;
            projection.building = None;
            Ok(true)
        })
    }

    fn give_up(
        &self,
        held: &Held,
        generation: Generation,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let held = held.clone();
        self.answer(move |state| {
            let given_up = state.held(&held)?.building.take_if(|building| *building == generation);
            state.retire(given_up);
            given_up.map(drop).ok_or(StoreError::Conflict)
        })
    }

    fn wish(&self, name: &ProjectionName, wish: Wish) -> BoxFuture<'_, Result<(), StoreError>> {
        let name = name.clone();
        self.answer(move |state| {
            state.projections.get_mut(&name).ok_or(StoreError::Unknown)?.wish = Some(wish);
            Ok(())
        })
    }

    fn wish_followed(&self, held: &Held, wish: Wish) -> BoxFuture<'_, Result<(), StoreError>> {
        let held = held.clone();
        self.answer(move |state| {
            let projection = state.held(&held)?;
            projection.wish.take_if(|still| *still == wish);
            Ok(())
        })
    }

    fn set_stopped(
        &self,
        held: &Held,
        generation: Generation,
        stopped: Option<Stopped>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let held = held.clone();
        self.answer(move |state| {
            let stopped = stopped.map(|stopped| Stopped {
                reason: cut(&stopped.reason, REASON_BYTES_MAX),
                ..stopped
            });
            state.written(&held, generation)?.stopped = stopped;
            Ok(())
        })
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<(), StoreError>> {
        self.answer(move |state| {
            check(&commit)?;
            if commit.sql.is_some() {
                let reason = "statements run in PostgreSQL only".into();
                return Err(StoreError::Refused { reason });
            }
            let generation = state.written(&commit.held, commit.generation)?;
            if generation.checkpoint != commit.expected {
                return Err(StoreError::Conflict);
            }
            generation.apply(commit);
            Ok(())
        })
    }

    fn documents(
        &self,
        generation: Generation,
        keys: Vec<DocumentKey>,
    ) -> BoxFuture<'_, Result<Vec<StoredDocument>, StoreError>> {
        self.answer(move |state| {
            let Some(found) = state.generations.get(&generation) else { return Ok(Vec::new()) };
            Ok(keys.into_iter().filter_map(|key| found.document(key)).collect())
        })
    }

    fn page(&self, read: PageRead) -> BoxFuture<'_, Result<DocumentPage, StoreError>> {
        self.answer(move |state| Ok(state.read(read.generation)?.page(&read)))
    }

    fn changes(&self, read: ChangesRead) -> BoxFuture<'_, Result<ChangePage, StoreError>> {
        self.answer(move |state| {
            let found = state.read(read.generation)?;
            let projection = state.projections.get(&found.projection);
            let active = projection.is_some_and(|found| found.active == read.generation);
            Ok(found.changes(&read, active))
        })
    }

    fn parked(
        &self,
        generation: Generation,
        after: GlobalPosition,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Parked>, StoreError>> {
        self.answer(move |state| {
            let Some(found) = state.generations.get(&generation) else { return Ok(Vec::new()) };
            let parked = found.parked.range(after.next()..).take(limit);
            Ok(parked
                .map(|(position, reason)| Parked { position: *position, reason: reason.clone() })
                .collect())
        })
    }

    fn sweep(
        &self,
        held: &Held,
        tombstones_kept: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let held = held.clone();
        self.answer(move |state| state.sweep(&held, tombstones_kept, limit))
    }

    fn forget(&self, name: &ProjectionName) -> BoxFuture<'_, Result<bool, StoreError>> {
        let name = name.clone();
        self.answer(move |state| {
            let Some(projection) = state.projections.get(&name) else { return Ok(false) };
            if projection.owner.as_ref().is_some_and(Lease::runs) {
                return Err(StoreError::Owned);
            }
            state.projections.remove(&name);
            state.generations.retain(|_, generation| generation.projection != name);
            Ok(true)
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.lock().closed = true })
    }
}
