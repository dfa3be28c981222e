//! The rules of the events, on hand-picked rows and on the bundled two weeks.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use tidewire_eventstore::Payload;

use super::*;
use crate::flights::{bundled, row::read_rows};

const HEADER: &str = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,\
                      arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance\n";

fn timetable(rows: &str) -> Timetable {
    let rows = read_rows(format!("{HEADER}{rows}").as_bytes()).unwrap();
    Timetable::new(&Places::bundled().unwrap(), rows)
}

fn parse(event: &NewEvent) -> (Value, String) {
    let Payload::Json(data) = &event.payload else { panic!("flights carry JSON") };
    let meta: Value = serde_json::from_slice(event.meta.as_ref().unwrap()).unwrap();
    (serde_json::from_slice(data).unwrap(), meta["happened_at"].as_str().unwrap().to_owned())
}

fn events(rows: &str) -> Vec<(String, Value, String)> {
    let timetable = timetable(rows);
    (0..timetable.len())
        .map(|index| {
            let event = timetable.event(index).unwrap().new_event();
            let (data, happened_at) = parse(&event);
            (event.event_type.to_string(), data, happened_at)
        })
        .collect()
}

#[test]
fn a_flight_is_scheduled_departs_and_arrives() {
    let events = events("2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400\n");
    assert_eq!(
        events,
        [
            (
                "FlightScheduled".to_owned(),
                json!({
                    "carrier": "UA", "carrier_name": "United Air Lines Inc.", "flight": 1545,
                    "tail": "N14228", "origin": "EWR", "dest": "IAH",
                    "dest_name": "George Bush Intercontinental",
                    "scheduled_departure": "2013-01-01T05:15",
                    "scheduled_arrival": "2013-01-01T08:19", "distance": 1400,
                }),
                "2013-01-01T00:00:00-05:00".to_owned(),
            ),
            (
                "FlightDeparted".to_owned(),
                json!({
                    "carrier": "UA", "flight": 1545, "origin": "EWR", "dest": "IAH",
                    "at": "2013-01-01T05:17", "delay_minutes": 2,
                }),
                "2013-01-01T05:17:00-05:00".to_owned(),
            ),
            (
                "FlightArrived".to_owned(),
                json!({
                    "carrier": "UA", "flight": 1545, "origin": "EWR", "dest": "IAH",
                    "at": "2013-01-01T08:30", "delay_minutes": 11, "air_time_minutes": 227,
                }),
                // Houston's clocks are an hour behind New York's.
                "2013-01-01T09:30:00-05:00".to_owned(),
            ),
        ]
    );
}

#[test]
fn a_flight_may_be_cancelled_or_diverted_or_arrive_on_another_day() {
    let rows = [
        (
            "2013,1,1,,1630,,,1815,,EV,4308,N18120,EWR,RDU,,416\n",
            "FlightCancelled",
            "2013-01-01T16:30",
            "2013-01-01T16:30:00-05:00",
        ),
        // Diverted, with a reported arrival.
        (
            "2013,1,1,1525,1530,-5,1934,1805,,MQ,4525,N719MQ,LGA,XNA,,1147\n",
            "FlightDiverted",
            "2013-01-01T19:34",
            "2013-01-01T20:34:00-05:00",
        ),
        // Diverted, and nothing is known of an arrival: scheduled arrival plus the delay.
        (
            "2013,1,2,905,822,43,,1045,,EV,4140,N1,EWR,BNA,,748\n",
            "FlightDiverted",
            "2013-01-02T11:28",
            "2013-01-02T12:28:00-05:00",
        ),
        // Leaves before midnight, arrives after it, in the same zone.
        (
            "2013,1,1,2310,2255,15,24,15,9,B6,108,N1,JFK,PWM,50,273\n",
            "FlightArrived",
            "2013-01-02T00:24",
            "2013-01-02T00:24:00-05:00",
        ),
        // Delayed past midnight.
        (
            "2013,1,1,30,2130,180,400,100,180,B6,1,N1,JFK,FLL,150,1069\n",
            "FlightArrived",
            "2013-01-02T04:00",
            "2013-01-02T04:00:00-05:00",
        ),
        // Clocks in Honolulu are five hours behind: it lands the same afternoon there.
        (
            "2013,1,1,900,900,0,1516,1530,-14,HA,51,N1,JFK,HNL,659,4983\n",
            "FlightArrived",
            "2013-01-01T15:16",
            "2013-01-01T20:16:00-05:00",
        ),
        // Puerto Rico keeps no daylight saving time: in summer its clocks equal New York's.
        (
            "2013,7,1,600,600,0,945,945,0,B6,703,N1,JFK,SJU,190,1598\n",
            "FlightArrived",
            "2013-07-01T09:45",
            "2013-07-01T09:45:00-04:00",
        ),
    ];
    for (row, event_type, at, happened_at) in rows {
        let (last_type, data, last_happened_at) = events(row).pop().unwrap();
        assert_eq!((last_type.as_str(), &data["at"]), (event_type, &json!(at)), "{row}");
        assert_eq!(last_happened_at, happened_at, "{row}");
    }
}

#[test]
fn a_flight_is_announced_six_hours_ahead() {
    let (_, _, happened_at) =
        events("2013,7,1,1400,1400,0,1600,1600,0,B6,1,NA,JFK,BOS,50,187\n").remove(0);
    assert_eq!(happened_at, "2013-07-01T08:00:00-04:00");
}

#[test]
fn the_two_weeks_are_a_history_that_could_have_happened() {
    let timetable = bundled().unwrap();
    assert_eq!(timetable.flights(), 12_340);
    let mut ids = HashSet::new();
    let mut per_stream: HashMap<String, Vec<&'static str>> = HashMap::new();
    let mut last = timetable.event(0).unwrap().at();
    for index in 0..timetable.len() {
        let event = timetable.event(index).unwrap();
        assert!(event.at() >= last, "events are in the order in which they happened");
        last = event.at();
        assert!(ids.insert(event.new_event().id), "ids are unique");
        per_stream.entry(event.stream().to_string()).or_default().push(event.event_type());
    }
    assert_eq!(per_stream.len(), timetable.flights(), "each flight has a stream of its own");
    let mut ends: HashMap<&str, usize> = HashMap::new();
    for (stream, types) in &per_stream {
        match types.as_slice() {
            ["FlightScheduled", "FlightCancelled"] => *ends.entry("cancelled").or_default() += 1,
            ["FlightScheduled", "FlightDeparted", "FlightArrived"] => {
                *ends.entry("arrived").or_default() += 1;
            }
            ["FlightScheduled", "FlightDeparted", "FlightDiverted"] => {
                *ends.entry("diverted").or_default() += 1;
            }
            other => panic!("{stream}: {other:?}"),
        }
    }
    assert!(ends["cancelled"] > 1000, "the blizzard is in it: {ends:?}");
    assert!(ends["diverted"] > 0, "{ends:?}");
    assert!(ends["arrived"] > 10_000, "{ends:?}");
}

#[test]
fn the_times_that_are_computed_are_the_times_that_the_file_reports() {
    let timetable = bundled().unwrap();
    let mut compared = 0;
    for index in 0..timetable.len() {
        let event = timetable.event(index).unwrap();
        let row = &event.flight.row;
        let reported = match event.happening.kind {
            Kind::Departed => row.dep_time,
            Kind::Arrived => row.arr_time,
            Kind::Scheduled | Kind::Cancelled | Kind::Diverted => None,
        };
        let Some(reported) = reported else { continue };
        let (data, _) = parse(&event.new_event());
        let shown = data["at"].as_str().unwrap()[11..].replace(':', "").parse::<i64>().unwrap();
        assert_eq!(shown, reported % 2400, "{}", event.stream());
        compared += 1;
    }
    assert!(compared > 20_000);
}

#[test]
fn a_recorded_event_is_found_again() {
    let timetable = bundled().unwrap();
    let event = timetable.event(777).unwrap();
    assert_eq!(timetable.index_of(event.stream().as_str(), event.event_type()), Some(777));
    assert_eq!(timetable.index_of("flight-2013-01-01-XX1-EWR", "FlightScheduled"), None);
}
