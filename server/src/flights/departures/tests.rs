//! What becomes of a flight's document, event by event.

use tidewire_eventstore::{EventId, GlobalPosition, Revision, StreamName, Timestamp};
use tidewire_projections::WorkingSet;

use super::*;

const STREAM: &str = "flight-2013-01-01-UA1545-EWR";

fn event(position: u64, event_type: &str, data: &Value, happened_at: &str) -> RecordedEvent {
    RecordedEvent {
        position: GlobalPosition::new(position),
        stream: StreamName::new(STREAM).unwrap(),
        revision: Revision::new(position - 1),
        event_type: EventType::new(event_type).unwrap(),
        id: EventId::generate(),
        recorded_at: Timestamp::from_micros(0),
        payload: Payload::Json(data.to_string().into()),
        meta: Some(json!({ "happened_at": happened_at }).to_string().into()),
    }
}

/// The flight's document after some events.
fn document(events: &[(&str, Value)]) -> Result<Option<Value>, ProjectError> {
    let departures = Departures::new();
    let mut set = WorkingSet::new(departures.definition());
    set.load(DocumentKey::new(STREAM).unwrap(), None);
    for (position, (event_type, data)) in (1..).zip(events) {
        let event = event(position, event_type, data, &format!("t{position}"));
        assert!(departures.definition().wants(&event));
        let mut keys = Vec::new();
        departures.keys(&event, &mut keys)?;
        let mut documents = set.begin(event.position, &keys)?;
        departures.project(&event, &mut documents)?;
        set.accept();
    }
    let (writes, _) = set.take_writes();
    Ok(writes.first().and_then(|write| serde_json::from_slice(write.data.as_ref()?).ok()))
}

fn scheduled() -> (&'static str, Value) {
    let data = json!({
        "carrier": "UA", "carrier_name": "United Air Lines Inc.", "flight": 1545,
        "tail": "N14228", "origin": "EWR", "dest": "IAH",
        "dest_name": "George Bush Intercontinental", "scheduled_departure": "2013-01-01T05:15",
        "scheduled_arrival": "2013-01-01T08:19", "distance": 1400,
    });
    ("FlightScheduled", data)
}

#[test]
fn each_event_is_laid_over_what_was_said_before() {
    let base = json!({
        "carrier": "UA", "carrier_name": "United Air Lines Inc.", "flight": 1545,
        "origin": "EWR", "destination": "IAH",
        "destination_name": "George Bush Intercontinental", "day": "2013-01-01",
        "scheduled": "2013-01-01T05:15", "scheduled_arrival": "2013-01-01T08:19",
    });
    let with = |more: Value| {
        let mut document = base.clone();
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Some(document)
    };
    let departed = ("FlightDeparted", json!({ "at": "2013-01-01T05:17", "delay_minutes": 2 }));
    let arrived = ("FlightArrived", json!({ "at": "2013-01-01T08:30", "delay_minutes": 11 }));
    let diverted = ("FlightDiverted", json!({ "at": "2013-01-01T09:00" }));
    let cancelled = ("FlightCancelled", json!({ "at": "2013-01-01T05:15", "reason": null }));
    for (events, expected) in [
        (vec![scheduled()], with(json!({ "status": "scheduled", "changed_at": "t1" }))),
        (
            vec![scheduled(), departed.clone()],
            with(json!({
                "status": "departed", "changed_at": "t2",
                "departed": "2013-01-01T05:17", "delay_minutes": 2,
            })),
        ),
        (
            vec![scheduled(), departed.clone(), arrived],
            with(json!({
                "status": "arrived", "changed_at": "t3", "departed": "2013-01-01T05:17",
                "arrived": "2013-01-01T08:30", "delay_minutes": 11,
            })),
        ),
        (
            vec![scheduled(), departed.clone(), diverted],
            with(json!({
                "status": "diverted", "changed_at": "t3", "departed": "2013-01-01T05:17",
                "arrived": "2013-01-01T09:00", "delay_minutes": 2,
            })),
        ),
        (vec![scheduled(), cancelled], with(json!({ "status": "cancelled", "changed_at": "t2" }))),
        (vec![departed], None),
    ] {
        assert_eq!(document(&events), Ok(expected), "{events:?}");
    }
}

#[test]
fn an_event_that_says_nothing_of_a_flight_is_refused() {
    for (event_type, data) in [
        ("FlightScheduled", json!({ "carrier": "UA" })),
        ("FlightScheduled", json!(7)),
        ("FlightDeparted", json!({ "delay_minutes": 2 })),
        ("FlightDeparted", json!({ "at": "2013-01-01T05:17", "delay_minutes": "two" })),
    ] {
        let refused = document(&[scheduled(), (event_type, data.clone())]).unwrap_err();
        assert_eq!(refused.code(), "event_unreadable", "{event_type} {data}");
    }
}
