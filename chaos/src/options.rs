//! The command line.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};

use crate::world::Shape;

/// The deliberate bugs, for people.
pub(crate) const PLANTS: &str = "\
Deliberate bugs that the servers can be given, to see that they are caught:

  ack-before-commit           a writer is answered before its append is durable
  repeated-append             an append that is sent again is recorded again
  lost-wake-up                now and then sessions are not told of what was appended
  skipped-batch               now and then live sessions are not given what was appended
  hand-over-off-by-one        a reader goes live one event after the last that it read
  no-head-poll                a server that hears no notice does not look for itself
  checkpoint-before-effect    a consumer's checkpoint moves with what was sent, not with what was acked
  checkpoint-before-documents a projection's checkpoint is committed before its documents
";

/// Break a running Tidewire from a seed, and check what its clients were told and saw
#[derive(Debug, clap::Parser)]
pub(crate) struct Options {
    /// How many faults
    #[arg(long, default_value_t = 100)]
    faults: u64,
    /// The seed of the faults, and of everything else that is left to chance here
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Only on this database; otherwise PostgreSQL with one server, with two, then SQLite
    #[arg(long, value_enum)]
    store: Option<StoreKind>,
    /// Servers on one PostgreSQL
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=4))]
    servers: Option<u8>,
    /// Begin no further storm after so many minutes; what is left out is said
    #[arg(long, default_value_t = 240)]
    minutes: u64,
    /// Give the servers this deliberate bug; the program has to be built with --features plant
    #[arg(long, value_name = "NAME")]
    pub(crate) plant: Option<String>,
    /// Leave durable consumers out
    #[arg(long)]
    pub(crate) no_consumers: bool,
    /// List the deliberate bugs
    #[arg(long)]
    pub(crate) list_plants: bool,
    /// The program to break; by default `tidewire` beside this program
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum StoreKind {
    Postgres,
    Sqlite,
}

impl Options {
    /// The program to break.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        let beside = || -> Result<PathBuf> {
            let own = std::env::current_exe().context("the path of this program")?;
            Ok(own.with_file_name("tidewire"))
        };
        let program = self.program.clone().map_or_else(beside, Ok)?;
        if !program.is_file() {
            bail!("{} is not there: build it (cargo build -p tidewire)", program.display());
        }
        Ok(program.canonicalize()?)
    }

    /// For how long storms may begin.
    pub(crate) fn within(&self) -> Duration {
        Duration::from_secs(self.minutes * 60)
    }

    /// The worlds, each with its share of the faults.
    pub(crate) fn worlds(&self) -> Vec<(Shape, u64)> {
        let all = self.faults;
        let servers = usize::from(self.servers.unwrap_or(2));
        match (self.store, self.servers) {
            (Some(StoreKind::Sqlite), _) => vec![(Shape::Sqlite, all)],
            (Some(StoreKind::Postgres), _) | (None, Some(_)) => {
                vec![(Shape::Postgres { servers }, all)]
            }
            (None, None) => vec![
                (Shape::Postgres { servers: 1 }, all / 4),
                (Shape::Postgres { servers: 2 }, all - all / 4 - all / 4),
                (Shape::Sqlite, all / 4),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tidewire_eventstore::plant::Plant;

    use super::*;

    #[test]
    fn the_list_of_plants_is_whole() {
        let listed: Vec<&str> =
            PLANTS.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
        assert_eq!(listed, Plant::ALL.map(Plant::as_str));
    }

    fn worlds(args: &[&str]) -> Vec<(Shape, u64)> {
        Options::parse_from(["chaos"].iter().chain(args)).worlds()
    }

    #[test]
    fn every_fault_is_some_world_s() {
        let all = worlds(&["--faults", "501"]);
        assert_eq!(all.len(), 3);
        assert_eq!(all.iter().map(|(_, faults)| faults).sum::<u64>(), 501);
        assert_eq!(worlds(&["--store", "sqlite", "--faults", "7"]), [(Shape::Sqlite, 7)]);
        let two = Shape::Postgres { servers: 2 };
        assert_eq!(worlds(&["--store", "postgres", "--faults", "7"]), [(two, 7)]);
        let one = Shape::Postgres { servers: 1 };
        assert_eq!(worlds(&["--servers", "1", "--faults", "7"]), [(one, 7)]);
    }
}
