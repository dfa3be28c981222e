//! What happened to the flights, and when: a row becomes one to three events.
//!
//! The file has no times for some of it; these are the rules:
//!
//! - **FlightScheduled** happens six hours before the scheduled departure, but not before midnight
//!   of that day.
//! - **FlightDeparted** happens at the scheduled departure plus the delay.
//! - **FlightArrived** happens at the scheduled arrival plus the delay. The scheduled arrival is
//!   the first time after the scheduled departure at which clocks at the destination show it.
//! - **FlightDiverted** (it departed, and the file has no delay of its arrival) happens at the
//!   reported arrival where there is one, else at the scheduled arrival plus the delay of the
//!   departure.
//! - **FlightCancelled** (it has no departure) happens at the scheduled departure, for the file
//!   does not say when it was called off.
//!
//! Times in the data are what clocks show at the place: the origin for departures and
//! cancellations, the destination for arrivals and diversions.

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;
use tidewire_eventstore::{EventId, EventType, NewEvent, Payload, StreamName};
use uuid::Uuid;

use super::{
    clock::{LocalTime, Moment, Zone},
    places::{Airport, Places},
    row::Row,
};

/// How long before its departure a flight appears in the log, in minutes.
const ANNOUNCED_MINUTES_AHEAD: i64 = 6 * 60;

/// The namespace of the events' ids (UUIDv5, RFC 9562 section 5.5), drawn at random once.
const ID_NAMESPACE: Uuid = Uuid::from_u128(0x6f1a_54d2_9c0b_4e57_8d35_2b7e_91c4_a3f8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Scheduled,
    Departed,
    Arrived,
    Cancelled,
    Diverted,
}

impl Kind {
    const fn event_type(self) -> &'static str {
        match self {
            Self::Scheduled => "FlightScheduled",
            Self::Departed => "FlightDeparted",
            Self::Arrived => "FlightArrived",
            Self::Cancelled => "FlightCancelled",
            Self::Diverted => "FlightDiverted",
        }
    }
}

#[derive(Debug)]
struct Flight {
    row: Row,
    carrier_name: Arc<str>,
    dest: Airport,
    scheduled_departure: LocalTime,
    scheduled_arrival: LocalTime,
}

/// Something that happened to a flight.
#[derive(Debug, Clone, Copy)]
struct Happening {
    at: Moment,
    kind: Kind,
    flight: u32,
}

/// Everything that happened, in order.
#[derive(Debug)]
pub(crate) struct Timetable {
    flights: Vec<Flight>,
    happenings: Vec<Happening>,
}

impl Timetable {
    pub(super) fn new(places: &Places, rows: Vec<Row>) -> Self {
        let mut airlines = HashMap::new();
        let mut flights = Vec::with_capacity(rows.len());
        let mut happenings = Vec::with_capacity(rows.len() * 3);
        for (flight, row) in (0_u32..).zip(rows) {
            let carrier_name = Arc::clone(
                airlines.entry(row.carrier.clone()).or_insert_with(|| places.airline(&row.carrier)),
            );
            let dest = places.airport(&row.dest);
            let new = Flight::new(row, carrier_name, dest);
            let add = |(kind, at)| happenings.push(Happening { at, kind, flight });
            new.happenings().into_iter().flatten().for_each(add);
            flights.push(new);
        }
        happenings.sort_by_key(|happening| (happening.at, happening.kind, happening.flight));
        Self { flights, happenings }
    }

    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        self.happenings.len()
    }

    /// How many flights there are.
    pub(crate) fn flights(&self) -> usize {
        self.flights.len()
    }

    /// The event at `index` in the order in which they happened.
    pub(crate) fn event(&self, index: usize) -> Option<FlightEvent<'_>> {
        let happening = *self.happenings.get(index)?;
        Some(FlightEvent { flight: &self.flights[happening.flight as usize], happening })
    }

    /// The moment of the first departure.
    pub(crate) fn first_departure(&self) -> Option<Moment> {
        let departed = |happening: &&Happening| happening.kind == Kind::Departed;
        self.happenings.iter().find(departed).map(|happening| happening.at)
    }

    /// Where in the order a recorded event stands.
    pub(crate) fn index_of(&self, stream: &str, event_type: &str) -> Option<usize> {
        (0..self.len()).find(|&index| {
            self.event(index).is_some_and(|event| {
                event.event_type() == event_type && event.stream_text() == stream
            })
        })
    }
}

impl Flight {
    fn new(row: Row, carrier_name: Arc<str>, dest: Airport) -> Self {
        let scheduled_departure =
            LocalTime::midnight(row.year, row.month, row.day).at_hhmm(row.sched_dep_time);
        let departs_at = Zone::NEW_YORK.instant(scheduled_departure);
        let scheduled_arrival = dest.zone.local(departs_at).next_hhmm(row.sched_arr_time);
        Self { row, carrier_name, dest, scheduled_departure, scheduled_arrival }
    }

    fn happenings(&self) -> [Option<(Kind, Moment)>; 3] {
        let scheduled_departure = Zone::NEW_YORK.instant(self.scheduled_departure);
        let scheduled_arrival = self.dest.zone.instant(self.scheduled_arrival);
        let midnight = Zone::NEW_YORK.instant(self.scheduled_departure.at_hhmm(0));
        let announced = scheduled_departure.plus_minutes(-ANNOUNCED_MINUTES_AHEAD).max(midnight);
        let scheduled = Some((Kind::Scheduled, announced));
        if self.row.dep_time.is_none() {
            return [scheduled, Some((Kind::Cancelled, scheduled_departure)), None];
        }

        let dep_delay = self.row.dep_delay.unwrap_or(0);
        let departed = scheduled_departure.plus_minutes(dep_delay);
        let end = match self.row.arr_delay {
            Some(delay) => (Kind::Arrived, scheduled_arrival.plus_minutes(delay)),
            None => (
                Kind::Diverted,
                self.row.arr_time.map_or_else(
                    || scheduled_arrival.plus_minutes(dep_delay),
                    |arrived| {
                        let there = self.dest.zone.local(departed).next_hhmm(arrived);
                        self.dest.zone.instant(there)
                    },
                ),
            ),
        };
        // A flight never ends before it began, whatever the file says.
        [scheduled, Some((Kind::Departed, departed)), Some((end.0, end.1.max(departed)))]
    }
}

/// One event of a [`Timetable`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlightEvent<'a> {
    flight: &'a Flight,
    happening: Happening,
}

#[derive(Serialize)]
struct ScheduledData<'a> {
    carrier: &'a str,
    carrier_name: &'a str,
    flight: u32,
    tail: Option<&'a str>,
    origin: &'a str,
    dest: &'a str,
    dest_name: &'a str,
    scheduled_departure: String,
    scheduled_arrival: String,
    distance: u32,
}

#[derive(Serialize)]
struct MovementData<'a> {
    carrier: &'a str,
    flight: u32,
    origin: &'a str,
    dest: &'a str,
    at: String,
    #[serde(flatten)]
    more: Movement,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Movement {
    Departed { delay_minutes: i64 },
    Arrived { delay_minutes: i64, air_time_minutes: Option<i64> },
    Cancelled { reason: Option<String> },
    Diverted {},
}

#[derive(Serialize)]
struct Meta {
    happened_at: String,
}

impl FlightEvent<'_> {
    /// When it happened.
    pub(crate) fn at(&self) -> Moment {
        self.happening.at
    }

    /// When it happened, in New York's time.
    pub(crate) fn happened_at(&self) -> String {
        Zone::NEW_YORK.rfc3339(self.happening.at)
    }

    /// The flight's stream: `flight-<date>-<carrier><number>-<origin>`.
    pub(crate) fn stream(&self) -> StreamName {
        StreamName::new(&self.stream_text()).expect("codes and a date make a short plain name")
    }

    /// The event as it is appended, with an id that the stream and the type alone decide.
    pub(crate) fn new_event(&self) -> NewEvent {
        let id = format!("{}/{}", self.stream_text(), self.event_type());
        let data = match self.happening.kind {
            Kind::Scheduled => to_json(&self.scheduled_data()),
            kind => to_json(&self.movement_data(kind)),
        };
        NewEvent {
            id: Some(EventId::from(Uuid::new_v5(&ID_NAMESPACE, id.as_bytes()))),
            event_type: EventType::new(self.event_type()).expect("the types are plain names"),
            payload: Payload::Json(data.into()),
            meta: Some(to_json(&Meta { happened_at: self.happened_at() }).into()),
        }
    }

    fn event_type(&self) -> &'static str {
        self.happening.kind.event_type()
    }

    fn stream_text(&self) -> String {
        let Row { carrier, flight, origin, .. } = &self.flight.row;
        format!("flight-{}-{carrier}{flight}-{origin}", self.flight.scheduled_departure.date())
    }

    fn scheduled_data(&self) -> ScheduledData<'_> {
        let row = &self.flight.row;
        ScheduledData {
            carrier: &row.carrier,
            carrier_name: &self.flight.carrier_name,
            flight: row.flight,
            tail: row.tailnum.as_deref(),
            origin: &row.origin,
            dest: &row.dest,
            dest_name: &self.flight.dest.name,
            scheduled_departure: self.flight.scheduled_departure.to_string(),
            scheduled_arrival: self.flight.scheduled_arrival.to_string(),
            distance: row.distance,
        }
    }

    fn movement_data(&self, kind: Kind) -> MovementData<'_> {
        let row = &self.flight.row;
        let zone = match kind {
            Kind::Scheduled | Kind::Departed | Kind::Cancelled => Zone::NEW_YORK,
            Kind::Arrived | Kind::Diverted => self.flight.dest.zone,
        };
        let more = match kind {
            Kind::Arrived => Movement::Arrived {
                delay_minutes: row.arr_delay.unwrap_or(0),
                air_time_minutes: row.air_time,
            },
            Kind::Cancelled => Movement::Cancelled { reason: None },
            Kind::Diverted => Movement::Diverted {},
            Kind::Scheduled | Kind::Departed => {
                Movement::Departed { delay_minutes: row.dep_delay.unwrap_or(0) }
            }
        };
        MovementData {
            carrier: &row.carrier,
            flight: row.flight,
            origin: &row.origin,
            dest: &row.dest,
            at: zone.local(self.happening.at).to_string(),
            more,
        }
    }
}

fn to_json(data: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(data).expect("strings, numbers and null always serialise")
}

#[cfg(test)]
mod tests;
