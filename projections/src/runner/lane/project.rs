//! What a lane makes of a page: as many events as make a batch, projected into the working set or
//! gathered for a statement. An event that fails is parked, or the batch ends before it.

use std::sync::Arc;

use tidewire_eventstore::{GlobalPosition, RecordedEvent};
use tokio::task::yield_now;

use super::{
    super::{
        batch::{self, Bounds, Named},
        sql,
    },
    Lane, Obstacle,
};
use crate::{
    EVENT_CHANGES_MAX, OnPoison,
    documents::{COMMIT_WRITES_MAX, Parked, SqlBatch},
    hub::Counters,
};

/// A batch that was projected.
#[derive(Default)]
pub(super) struct Projected {
    /// How many of the events it took.
    pub(super) events: usize,
    /// The last of them.
    pub(super) last: GlobalPosition,
    pub(super) parked: Vec<Parked>,
    pub(super) sql: Option<SqlBatch>,
    /// The event after those that it took is poison, and the projection stops there.
    pub(super) poison: Option<(GlobalPosition, String)>,
}

impl Projected {
    fn took(&mut self, event: &RecordedEvent) {
        self.events += 1;
        self.last = event.position;
    }
}

impl Lane {
    /// Projects the first of `events`, as many as make a batch.
    pub(super) async fn project(
        &mut self,
        events: &[RecordedEvent],
    ) -> Result<Projected, Obstacle> {
        let hub = Arc::clone(&self.hub);
        let projection = hub.projection.as_ref();
        if let Some(statements) = projection.sql() {
            return Ok(self.gather(events, &statements.apply));
        }
        let bounds = Bounds {
            events: self.batch_events,
            event_bytes: hub.config.batch_bytes,
            document_bytes: hub.config.documents_bytes,
        };
        let mut named = Named::of(projection, events, bounds).await;
        let generation = self.generation.generation;
        named.load(&mut self.set, hub.documents.as_ref(), generation, bounds).await?;
        let mut projected = Projected::default();
        for (number, event) in events.iter().take(named.len()).enumerate() {
            let outcome = match self.foreseen(event) {
                Some(reason) => Err(reason),
                None => match named.keys(number) {
                    Ok([]) => Ok(()),
                    Ok(keys) => batch::project(projection, &mut self.set, event, keys),
                    Err(reason) => Err(reason.to_owned()),
                },
            };
            if let Err(reason) = outcome
                && !self.put_aside(event, reason, &mut projected)
            {
                return Ok(projected);
            }
            projected.took(event);
            let full = self.set.dirty_len() > COMMIT_WRITES_MAX - EVENT_CHANGES_MAX
                || self.set.len_bytes() > 2 * bounds.document_bytes;
            if full {
                break;
            }
            if projected.events.is_multiple_of(256) {
                yield_now().await;
            }
        }
        Ok(projected)
    }

    /// Gathers the first of `events` for a statement, as many as make a batch.
    fn gather(&mut self, events: &[RecordedEvent], statement: &Arc<str>) -> Projected {
        let mut projected = Projected::default();
        let mut gathered = Vec::new();
        let mut bytes = 0;
        for event in events.iter().take(self.batch_events.max(1)) {
            bytes += event.payload.len();
            if bytes > self.hub.config.batch_bytes && projected.events > 0 {
                break;
            }
            if let Some(reason) = self.foreseen(event) {
                if !self.put_aside(event, reason, &mut projected) {
                    break;
                }
            } else if batch::concerns(event, self.hub.projection.as_ref()) {
                gathered.push(event);
            }
            projected.took(event);
        }
        if !gathered.is_empty() {
            projected.sql = Some(sql::batch(statement, gathered.into_iter()));
        }
        projected
    }

    /// Why an event is put aside or stopped at without being tried.
    fn foreseen(&self, event: &RecordedEvent) -> Option<String> {
        if self.skip == Some(event.position) {
            return Some("somebody asked to skip it".into());
        }
        let failing = self.failing.as_ref().filter(|(position, _)| *position == event.position);
        failing.map(|(_, reason)| reason.clone())
    }

    /// Parks an event, or says with `false` that the projection stops before it.
    fn put_aside(
        &mut self,
        event: &RecordedEvent,
        mut reason: String,
        projected: &mut Projected,
    ) -> bool {
        let asked = self.skip == Some(event.position);
        if !asked {
            Counters::add(&self.hub.counters.poison, 1);
        }
        let room = self.parked < self.hub.config.parked_max;
        if asked || (self.hub.policy.on_poison == OnPoison::Park && room) {
            self.parked += 1;
            projected.parked.push(Parked { position: event.position, reason });
            return true;
        }
        if self.hub.policy.on_poison == OnPoison::Park {
            reason = format!("{} events are parked already; {reason}", self.parked);
        }
        projected.poison = Some((event.position, reason));
        false
    }
}
