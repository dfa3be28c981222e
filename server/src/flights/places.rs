//! Names of airlines and airports, and the airports' time zones, from the bundled tables.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::clock::Zone;

const AIRLINES: &str = include_str!("../../data/airlines.csv");
const AIRPORTS: &str = include_str!("../../data/airports.csv");

/// An airport.
#[derive(Debug, Clone)]
pub(crate) struct Airport {
    /// Its name; its code where the table does not know it.
    pub(crate) name: Arc<str>,
    /// What its clocks show; New York's where the table does not know it.
    pub(crate) zone: Zone,
}

/// The tables of airlines and airports.
#[derive(Debug)]
pub(crate) struct Places {
    airlines: HashMap<String, Arc<str>>,
    airports: HashMap<String, Airport>,
}

#[derive(Deserialize)]
struct AirlineRow {
    carrier: String,
    name: String,
}

#[derive(Deserialize)]
struct AirportRow {
    faa: String,
    name: String,
    tz: i64,
    dst: String,
}

impl Places {
    /// The bundled tables.
    pub(crate) fn bundled() -> Result<Self> {
        let mut airlines = HashMap::new();
        for row in csv::Reader::from_reader(AIRLINES.as_bytes()).deserialize() {
            let row: AirlineRow = row.context("the bundled table of airlines is broken")?;
            airlines.insert(row.carrier, row.name.into());
        }
        let mut airports = HashMap::new();
        for row in csv::Reader::from_reader(AIRPORTS.as_bytes()).deserialize() {
            let row: AirportRow = row.context("the bundled table of airports is broken")?;
            let zone = Zone { standard_hours: row.tz, daylight_saving: row.dst == "A" };
            airports.insert(row.faa, Airport { name: row.name.into(), zone });
        }
        Ok(Self { airlines, airports })
    }

    /// An airline's name by its code; the code itself where it is unknown.
    pub(crate) fn airline(&self, carrier: &str) -> Arc<str> {
        self.airlines.get(carrier).cloned().unwrap_or_else(|| carrier.into())
    }

    /// An airport by its code.
    pub(crate) fn airport(&self, code: &str) -> Airport {
        let unknown = || Airport { name: code.into(), zone: Zone::NEW_YORK };
        self.airports.get(code).cloned().unwrap_or_else(unknown)
    }
}
