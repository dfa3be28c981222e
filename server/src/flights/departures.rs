//! The demo's projection `departures`: one document a flight, as it stands.
//!
//! The key is the flight's stream. A document begins with FlightScheduled; what the later events
//! say is laid over it. Fields that nothing was said of are absent.

use serde::Deserialize;
use serde_json::{Value, json};
use tidewire_eventstore::{
    Category, DocumentKey, EventType, Payload, ProjectionName, RecordedEvent, Target,
};
use tidewire_projections::{Definition, Documents, Index, ProjectError, Projection};
use tidewire_protocol::query::FieldPath;

/// How long the day is at the beginning of a time, such as `2013-01-01T05:15`.
const DAY_BYTES: usize = "2013-01-01".len();

/// The flights as documents.
#[derive(Debug)]
pub(crate) struct Departures(Definition);

impl Departures {
    /// The projection.
    pub(crate) fn new() -> Self {
        let field = |path: &&str| FieldPath::new(path).expect("the fields are plain names");
        let event_type = |name: &&str| EventType::new(name).expect("the types are plain names");
        let index = |paths: &[&str]| Index { fields: paths.iter().map(field).collect() };
        Self(Definition {
            name: ProjectionName::new("departures").expect("a plain name"),
            version: 1,
            target: Target::Category(Category::new("flight").expect("a plain name")),
            types: [
                "FlightScheduled",
                "FlightDeparted",
                "FlightArrived",
                "FlightCancelled",
                "FlightDiverted",
            ]
            .iter()
            .map(event_type)
            .collect(),
            fields: ["day", "origin", "status", "changed_at"].iter().map(field).collect(),
            indexes: vec![
                index(&["day", "scheduled"]),
                index(&["changed_at"]),
                index(&["status", "scheduled"]),
            ],
        })
    }
}

/// What FlightScheduled says of a flight; the rest of it is not shown.
#[derive(Deserialize)]
struct Scheduled {
    carrier: String,
    carrier_name: String,
    flight: u32,
    origin: String,
    dest: String,
    dest_name: String,
    scheduled_departure: String,
    scheduled_arrival: String,
}

/// What the other events say of a flight.
#[derive(Deserialize)]
struct Movement {
    at: String,
    delay_minutes: Option<i64>,
}

#[derive(Deserialize)]
struct Meta {
    happened_at: String,
}

impl Projection for Departures {
    fn definition(&self) -> &Definition {
        &self.0
    }

    fn keys(&self, event: &RecordedEvent, keys: &mut Vec<DocumentKey>) -> Result<(), ProjectError> {
        keys.push(key(event)?);
        Ok(())
    }

    fn project(
        &self,
        event: &RecordedEvent,
        documents: &mut Documents<'_>,
    ) -> Result<(), ProjectError> {
        // An event that was erased says nothing any more.
        let Payload::Json(data) = &event.payload else { return Ok(()) };
        let key = key(event)?;
        let meta = event.meta.as_deref().unwrap_or_default();
        let Meta { happened_at } = serde_json::from_slice(meta).map_err(malformed)?;
        if event.event_type.as_str() == "FlightScheduled" {
            let flight = serde_json::from_slice(data).map_err(malformed)?;
            return documents.put(&key, scheduled(flight, happened_at));
        }
        if documents.get(&key)?.is_none() {
            return Ok(());
        }
        let movement = serde_json::from_slice(data).map_err(malformed)?;
        documents.patch(&key, moved(event.event_type.as_str(), movement, happened_at))
    }
}

fn key(event: &RecordedEvent) -> Result<DocumentKey, ProjectError> {
    DocumentKey::new(event.stream.as_str()).map_err(ProjectError::from)
}

fn malformed(error: impl std::fmt::Display) -> ProjectError {
    ProjectError::EventUnreadable { reason: error.to_string() }
}

fn scheduled(flight: Scheduled, changed_at: String) -> Value {
    let day = flight.scheduled_departure.get(..DAY_BYTES).unwrap_or_default();
    json!({
        "carrier": flight.carrier,
        "carrier_name": flight.carrier_name,
        "flight": flight.flight,
        "origin": flight.origin,
        "destination": flight.dest,
        "destination_name": flight.dest_name,
        "day": day,
        "scheduled": flight.scheduled_departure,
        "scheduled_arrival": flight.scheduled_arrival,
        "status": "scheduled",
        "changed_at": changed_at,
    })
}

/// What a later event changes: a merge patch (RFC 7396).
fn moved(event_type: &str, movement: Movement, changed_at: String) -> Value {
    let Movement { at, delay_minutes } = movement;
    let mut patch = match event_type {
        "FlightDeparted" => json!({ "status": "departed", "departed": at }),
        "FlightArrived" => json!({ "status": "arrived", "arrived": at }),
        "FlightDiverted" => json!({ "status": "diverted", "arrived": at }),
        // It does not go at all, late or not.
        _ => json!({ "status": "cancelled", "delay_minutes": null }),
    };
    if let Some(minutes) = delay_minutes {
        patch["delay_minutes"] = minutes.into();
    }
    patch["changed_at"] = changed_at.into();
    patch
}

#[cfg(test)]
mod tests;
