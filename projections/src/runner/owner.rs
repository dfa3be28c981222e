//! [`Owning`]: what the owner of a projection does while its lease holds: runs a lane for each
//! generation that it can fill, does what others wish, and sweeps what is no longer read.

use std::{collections::BTreeMap, sync::Arc};

use tidewire_eventstore::{Generation, GlobalPosition};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use super::{
    chance, is_useful,
    lane::{Lane, LaneEnd},
    rebuilds_by_itself,
    turn::Turn,
};
use crate::{
    StoreError,
    documents::{GenerationStatus, Held, Status, Wish},
    hub::Hub,
    lease::{Lease, Lost},
    watched::unread,
};

/// Why a node no longer owns a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The lease was lost.
    Lost(Lost),
    /// There is nothing that this node could do as the owner.
    Useless,
    /// The projection's documents are to be forgotten: they are of a life of the log that is over.
    Forget,
    /// The node stops.
    Stopping,
}

/// A projection that this node owns.
pub(super) struct Owning {
    hub: Arc<Hub>,
    lease: Lease,
    turn: Turn,
    lanes: JoinSet<(Generation, LaneEnd)>,
    running: BTreeMap<Generation, AbortHandle>,
    /// The event that a generation is to skip when it goes on.
    skips: BTreeMap<Generation, GlobalPosition>,
    /// Whether the status is to be read again.
    stale: bool,
    sweep_at: Instant,
    failures: u32,
}

impl Owning {
    pub(super) fn new(hub: Arc<Hub>, lease: Lease) -> Self {
        let turn = Turn::new(hub.known().status.active.generation);
        Self {
            sweep_at: Instant::now() + hub.config.sweep_pause,
            hub,
            lease,
            turn,
            lanes: JoinSet::new(),
            running: BTreeMap::new(),
            skips: BTreeMap::new(),
            stale: true,
            failures: 0,
        }
    }

    /// Runs until there is nothing more to do, or the lease turns out to be lost. May be dropped at
    /// any point; its lanes end with it.
    pub(super) async fn run(mut self) -> Ended {
        loop {
            match self.step().await {
                Ok(None) => self.failures = 0,
                Ok(Some(ended)) => return ended,
                Err(StoreError::Fenced) => return Ended::Lost(Lost::Fenced),
                Err(error) => {
                    tracing::debug!(projection = %self.hub.name(), %error, "owner is held up");
                    self.stale = true;
                    sleep(self.hub.config.retry.delay(self.failures, chance())).await;
                    self.failures = self.failures.saturating_add(1);
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Ended>, StoreError> {
        if self.stale {
            if let Some(ended) = self.reconcile().await? {
                return Ok(Some(ended));
            }
            self.stale = false;
        }
        let hub = Arc::clone(&self.hub);
        let mut known = hub.watch();
        let wished = async {
            let wished = known.wait_for(|known| known.status.wish.is_some()).await;
            wished.ok().and_then(|known| known.status.wish)
        };
        let turn = self.turn.clone();
        tokio::select! {
            Some(ended) = self.lanes.join_next_with_id() => return self.lane_ended(ended).await,
            () = turn.swapped() => {
                self.stale = true;
                self.sweep_at = Instant::now();
            }
            Some(wish) = wished => return self.follow(wish).await,
            () = sleep_until(self.sweep_at) => self.sweep().await?,
        }
        Ok(None)
    }

    fn held(&self) -> &Held {
        &self.lease.held
    }

    /// Reads the status, and has the lanes run that it asks for.
    async fn reconcile(&mut self) -> Result<Option<Ended>, StoreError> {
        let hub = Arc::clone(&self.hub);
        let mut status = hub.documents.status(hub.name()).await?.ok_or(StoreError::Fenced)?;
        if status.fence != self.held().fence {
            return Err(StoreError::Fenced);
        }
        let version = hub.definition.version;
        let built = status.building.as_ref().is_some_and(|building| building.version == version);
        if rebuilds_by_itself(&hub, &status) && !built {
            tracing::info!(projection = %hub.name(), version, "rebuilding for a new version");
            self.end_lane(status.building.as_ref());
            hub.documents.begin_generation(self.held(), version).await?;
            status = hub.documents.status(hub.name()).await?.ok_or(StoreError::Fenced)?;
        }
        if self.running.is_empty() {
            hub.reread(status.clone());
            hub.set_owned(true);
        } else {
            hub.refreshed(status.clone());
        }
        if !is_useful(&hub, &status) {
            return Ok(Some(Ended::Useless));
        }
        let generations = [Some(&status.active), status.building.as_ref()];
        let wanted: Vec<_> = generations
            .into_iter()
            .flatten()
            .filter(|generation| generation.version == version && generation.stopped.is_none())
            .collect();
        let ended: Vec<_> = self
            .running
            .keys()
            .filter(|running| wanted.iter().all(|wanted| wanted.generation != **running))
            .copied()
            .collect();
        for generation in ended {
            if let Some(lane) = self.running.remove(&generation) {
                lane.abort();
            }
        }
        for generation in wanted {
            if !self.running.contains_key(&generation.generation) {
                self.begin_lane(generation, &status).await;
            }
        }
        Ok(None)
    }

    async fn begin_lane(&mut self, generation: &GenerationStatus, status: &Status) {
        let id = generation.generation;
        let active = status.active.generation == id;
        if active {
            self.turn.appoint(id).await;
        }
        let lane = Lane::new(
            Arc::clone(&self.hub),
            self.lease.clone(),
            self.turn.clone(),
            generation.clone(),
            active,
            self.skips.remove(&id),
        );
        let lane = self.lanes.spawn(async move { (id, lane.run().await) });
        self.running.insert(id, lane);
    }

    fn end_lane(&mut self, generation: Option<&GenerationStatus>) {
        let lane = generation.and_then(|status| self.running.remove(&status.generation));
        if let Some(lane) = lane {
            lane.abort();
        }
    }

    async fn lane_ended(
        &mut self,
        ended: Result<(tokio::task::Id, (Generation, LaneEnd)), tokio::task::JoinError>,
    ) -> Result<Option<Ended>, StoreError> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let running = self.running.len();
        self.running.retain(|_, lane| lane.id() != id);
        match ended {
            Ok((_, (_, LaneEnd::Fenced))) => return Err(StoreError::Fenced),
            Ok((_, (_, LaneEnd::Stopped | LaneEnd::Retired))) => self.stale = true,
            // It was ended on purpose.
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                tracing::error!(projection = %self.hub.name(), %error, "a lane panicked");
                self.stale = running != self.running.len();
                sleep(self.hub.config.retry.max).await;
            }
        }
        Ok(None)
    }

    /// Does what somebody wishes.
    async fn follow(&mut self, wish: Wish) -> Result<Option<Ended>, StoreError> {
        let hub = Arc::clone(&self.hub);
        let status = hub.documents.status(hub.name()).await?.ok_or(StoreError::Fenced)?;
        if status.wish != Some(wish) {
            // It was followed already, or somebody wishes something else since.
            hub.wish_followed(wish);
            self.stale = true;
            return Ok(None);
        }
        tracing::info!(projection = %hub.name(), ?wish, "following a wish");
        match wish {
            Wish::Rebuild => {
                let head = hub.log.head().await.map_err(unread)?;
                if status.active.checkpoint > head.position {
                    return Ok(Some(Ended::Forget));
                }
                let version = hub.definition.version;
                let under_way = status.building.as_ref().is_some_and(|building| {
                    building.version == version && building.stopped.is_none()
                });
                if !under_way {
                    self.end_lane(status.building.as_ref());
                    hub.documents.begin_generation(self.held(), version).await?;
                }
            }
            Wish::Cancel => {
                if let Some(building) = &status.building {
                    self.end_lane(Some(building));
                    match hub.documents.give_up(self.held(), building.generation).await {
                        // It was swapped or given up meanwhile.
                        Ok(()) | Err(StoreError::Conflict) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Wish::Resume | Wish::Skip => {
                for generation in [Some(&status.active), status.building.as_ref()] {
                    let Some(generation) = generation else { continue };
                    let Some(stopped) = &generation.stopped else { continue };
                    let id = generation.generation;
                    if let (Wish::Skip, Some(position)) = (wish, stopped.position) {
                        self.skips.insert(id, position);
                    }
                    hub.documents.set_stopped(self.held(), id, None).await?;
                    hub.set_stopped(id, None);
                }
            }
        }
        hub.documents.wish_followed(self.held(), wish).await?;
        hub.wish_followed(wish);
        self.stale = true;
        self.sweep_at = Instant::now();
        Ok(None)
    }

    /// Takes away some of what nobody reads any more.
    async fn sweep(&mut self) -> Result<(), StoreError> {
        let hub = &self.hub;
        let config = &hub.config;
        let began_at = Instant::now();
        // Where it fails it is not tried again at once.
        self.sweep_at = began_at + config.sweep_every;
        let more = hub.documents.sweep(self.held(), config.tombstones_kept, config.sweep_rows);
        let more = more.await?;
        // Sweeping has half of the time at most, however slow it is.
        let pause =
            if more { config.sweep_pause.max(began_at.elapsed()) } else { config.sweep_every };
        self.sweep_at = Instant::now() + pause;
        Ok(())
    }
}
