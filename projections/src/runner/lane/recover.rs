//! What a lane does when something went wrong: it asks the store where its generation stands and the
//! log whether it still holds that, waits where waiting may help, and stops where it cannot.

use std::sync::Arc;

use tidewire_eventstore::GlobalPosition;
use tokio::time::sleep;

use super::{
    super::{chance, commit::Failed, sql},
    Lane, LaneEnd, Obstacle,
};
use crate::{StoreError, documents::Stopped};

/// Failures in a row that are not the database's absence, after which a lane stops.
const FAILURES_MAX: u32 = 5;

impl Lane {
    /// Looks whether the log still holds what was projected, and goes on from what the store has.
    pub(super) async fn check_log(&mut self) -> Result<(), Obstacle> {
        self.settle().await?;
        self.set.clear();
        self.reader.reset();
        self.reread().await?;
        let head = self.hub.log.head().await?.position;
        if head < self.checkpoint { self.went_back(head).await } else { Ok(()) }
    }

    /// The log ends before what was projected.
    pub(super) async fn went_back(&mut self, head: GlobalPosition) -> Result<(), Obstacle> {
        self.settle().await?;
        self.reread().await?;
        if self.checkpoint <= head {
            // The documents went back with it.
            return Err(Obstacle::Store(StoreError::Conflict));
        }
        let reason = format!(
            "the log ends at {head}, before what the documents hold ({}): they are of another \
             life of the log and have to be rebuilt",
            self.checkpoint
        );
        self.stop(None, reason).await
    }

    /// Says that this generation goes no further.
    pub(super) async fn stop(
        &mut self,
        position: Option<GlobalPosition>,
        reason: String,
    ) -> Result<(), Obstacle> {
        let generation = self.generation.generation;
        let at = position.map(GlobalPosition::get);
        tracing::error!(projection = %self.hub.name(), position = at, reason, "projection stopped");
        let stopped = Some(Stopped { position, reason });
        let store = &self.hub.documents;
        store.set_stopped(&self.lease.held, generation, stopped.clone()).await?;
        self.hub.set_stopped(generation, stopped);
        Err(Obstacle::End(LaneEnd::Stopped))
    }

    /// Finds out where the generation stands after something went wrong.
    pub(super) async fn recover(&mut self, obstacle: Obstacle) -> Result<(), LaneEnd> {
        let mut obstacle = obstacle;
        loop {
            let error = match obstacle {
                Obstacle::End(end) => return Err(end),
                Obstacle::Store(error) => error,
                Obstacle::Commit(failed) => self.learn(failed),
            };
            if error == StoreError::Fenced {
                return Err(LaneEnd::Fenced);
            }
            tracing::debug!(projection = %self.hub.name(), %error, "projection is held up");
            if error != StoreError::Conflict || self.failures > 0 {
                sleep(self.hub.config.retry.delay(self.failures, chance())).await;
            }
            self.failures = self.failures.saturating_add(1);
            let hopeless = matches!(error, StoreError::Refused { .. } | StoreError::Corrupt { .. });
            let outcome = if hopeless && self.failures > FAILURES_MAX {
                self.stop(None, error.to_string()).await
            } else {
                self.reread().await
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(next) => obstacle = next,
            }
        }
    }

    /// What a failed commit teaches: where a statement fails on one event of many, fewer are tried
    /// at once until it is found.
    fn learn(&mut self, failed: Failed) -> StoreError {
        let Failed { error, events, position } = failed;
        let StoreError::Sql { sqlstate, .. } = &error else { return error };
        if sql::may_pass(sqlstate) {
            return StoreError::Unavailable;
        }
        if events > 1 {
            self.batch_events = events / 2;
        } else if events == 1 {
            self.failing = Some((position, error.to_string()));
        } else {
            return StoreError::Refused { reason: error.to_string() };
        }
        self.failures = 0;
        StoreError::Conflict
    }

    /// Goes on from where the store says that the generation stands.
    async fn reread(&mut self) -> Result<(), Obstacle> {
        let hub = Arc::clone(&self.hub);
        let status = hub.documents.status(hub.name()).await?.ok_or(StoreError::Fenced)?;
        if status.fence != self.lease.held.fence {
            return Err(Obstacle::End(LaneEnd::Fenced));
        }
        let id = self.generation.generation;
        let found = [Some(&status.active), status.building.as_ref()]
            .into_iter()
            .flatten()
            .find(|generation| generation.generation == id);
        let Some(found) = found else { return Err(Obstacle::End(LaneEnd::Retired)) };
        if !self.active && status.active.generation == id {
            // The answer to a swap was lost.
            let mut turn = self.turn.take().await;
            self.active = true;
            hub.swapped(id);
            self.turn.swap(&mut turn, id);
        }
        self.checkpoint = found.checkpoint;
        self.scanned = found.checkpoint;
        self.parked = found.parked;
        self.reset_due = found.checkpoint == GlobalPosition::START;
        self.generation = found.clone();
        hub.found(found);
        Ok(())
    }
}
