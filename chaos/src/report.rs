//! What came of a run, for people.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{
    calm::{SETTLE, Took},
    consumer, reader,
    world::{Shape, World},
};

/// What came of one world.
#[derive(Debug)]
pub(crate) struct Report {
    shape: Shape,
    seed: u64,
    /// How often each kind was injected, or could not be.
    pub(crate) faults: BTreeMap<(&'static str, bool), u64>,
    /// Faults that the run ended before.
    pub(crate) left_out_faults: u64,
    pub(crate) took: Took,
    /// How often a projection was rebuilt.
    pub(crate) rebuilds: u64,
    pub(crate) violations: Vec<String>,
    violations_total: u64,
    pub(crate) kept: Option<PathBuf>,
    lines: Vec<String>,
}

impl Report {
    pub(crate) fn new(shape: Shape, seed: u64) -> Self {
        Self {
            shape,
            seed,
            faults: BTreeMap::new(),
            left_out_faults: 0,
            took: Took::default(),
            rebuilds: 0,
            violations: Vec::new(),
            violations_total: 0,
            kept: None,
            lines: Vec::new(),
        }
    }

    /// Takes the numbers of a world that is about to be stopped.
    pub(crate) fn finish(&mut self, world: &World, took: Duration) {
        let counts = &world.ledger.counts;
        let get = |count: &AtomicU64| count.load(Relaxed);
        let connections = world.proxy.accepted();
        let clients = world.clients();
        self.lines = vec![
            format!("{:.0} s, seed {}", took.as_secs_f64(), self.seed),
            format!(
                "written: {} events acknowledged; {} appends refused, {} in doubt, {} requests \
                 sent again",
                get(&counts.written),
                get(&counts.refused),
                get(&counts.unknown),
                get(&counts.retries)
            ),
            format!(
                "read: {} events by {} readers, {} more repeated after a crash or a reconnect; \
                 {} times behind",
                get(&counts.read),
                world.readers.len(),
                get(&counts.repeated),
                get(&counts.behind)
            ),
            format!(
                "projected: {} rebuilds; {} messages of documents and their changes to {} watchers",
                self.rebuilds,
                get(&counts.documents),
                world.watchers.len()
            ),
            format!(
                "connections: {connections} for {clients} clients; {} crashes of clients",
                get(&counts.client_crashes)
            ),
        ];
        if !world.consumers.is_empty() {
            let unlucky: usize =
                world.consumers.iter().map(|consumer| consumer.parked_unlucky()).sum();
            self.lines.push(format!(
                "consumers: {} events parked because their attempts were spent, {unlucky} of them \
                 by bad luck alone; {} times a member that had been taken over came back because \
                 nobody held the consumer",
                get(&counts.parked),
                get(&counts.abandoned)
            ));
        }
        for server in &world.servers {
            let mib = server.resident_bytes_max() >> 20;
            self.lines.push(format!("{}: at most {mib} MiB of memory", server.name()));
        }
        (self.violations, self.violations_total) = world.ledger.violations();
    }

    /// Whether nothing was wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// How many faults were injected.
    pub(crate) fn injected(&self) -> u64 {
        self.faults.iter().filter(|((_, possible), _)| *possible).map(|(_, count)| count).sum()
    }

    /// Prints it.
    pub(crate) fn print(&self) {
        println!("\n--- {}", self.shape.name());
        for line in &self.lines {
            println!("  {line}");
        }
        println!("  faults: {}", self.injected());
        for ((kind, possible), count) in &self.faults {
            if *possible {
                println!("    {count:5} {kind}");
            } else {
                println!("    LEFT OUT {count} times, not possible here: {kind}");
            }
        }
        if self.left_out_faults > 0 {
            let why = if self.is_clean() { "for want of time" } else { "because this was enough" };
            println!("  LEFT OUT: {} faults, {why}", self.left_out_faults);
        }
        println!(
            "  after the faults all was settled within {:.1} s (bound {} s), a single event was with \
             every reader within {} ms (bound {} ms), with every consumer within {} ms (bound {} ms)",
            self.took.settled.as_secs_f64(),
            SETTLE.as_secs(),
            self.took.read.as_millis(),
            reader::PROBE.as_millis(),
            self.took.consumed.as_millis(),
            consumer::PROBE.as_millis()
        );
        if self.is_clean() {
            println!("  nothing wrong");
            return;
        }
        let total = self.violations_total.max(self.violations.len() as u64);
        println!("  VIOLATIONS: {total}, seed {}; the first:", self.seed);
        for violation in self.violations.iter().take(20) {
            println!("    {violation}");
        }
        if let Some(kept) = &self.kept {
            println!("  logs and data: {}", kept.display());
        }
    }
}
