//! Clients and server over a bad link, for thousands of seeds in a test run and any number beside.
//!
//! Real [`Session`](tidewire_protocol::Session)s and real [`ClientCore`]s talk through frames that
//! are delayed, split, cut and swallowed, while events are appended from both sides, nodes drain
//! and die, and the log is restored from a backup. Applications that acknowledge freeze, are
//! killed by events, settle in any order, nack in every way, and take consumers from each other.
//! Time is simulated and jumps.
//!
//! **Without acknowledgements**: each subscription gets exactly the matching events, each once, in
//! order; each append takes effect once and is settled once, truthfully.
//!
//! **With acknowledgements**, at every step: no acknowledgement covers, and no checkpoint passes,
//! what no application has settled and nobody has parked; a window holds no more than it may; each
//! stream goes on in order but for what is sent again, and a retry comes before what it withdrew;
//! events are charged no more often than they gave cause to, and parked when their attempts are
//! spent or an application says so; a consumer is saved once a second at most.
//!
//! **Once faults stop**, everything is caught up and settled within [`Timing::calm`], and dead
//! sessions are gone.
//!
//! `TIDEWIRE_SEED=n` runs one seed, `TIDEWIRE_SEEDS=n` that many. A failure prints its seed.
//!
//! [`ClientCore`]: tidewire_protocol::client::ClientCore

mod app;
mod chance;
mod client;
mod link;
mod log;
mod mirror;
mod seat;
mod server;
mod store;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use world::{Scenario, World};

/// How long things go on in a world.
struct Timing {
    /// How long faults go on.
    storm: Duration,
    /// How soon after that everything has to be well.
    calm: Duration,
}

/// What runs this test again, with the seed in `TIDEWIRE_SEED`.
const COMMAND: &str = "cargo test -p tidewire-protocol --test simulation";

/// How many seeds a test run tries without acknowledgements. Measured: 11 ms of one core each in
/// a debug build.
const PLAIN_SEEDS: u64 = 2000;

/// How many it tries with them. Measured: 40 ms each.
const RELIABLE_SEEDS: u64 = 1000;

fn run(seed: u64, scenario: Scenario) -> World {
    let timing = match scenario {
        Scenario::Plain => Timing { storm: Duration::from_secs(25), calm: Duration::from_secs(15) },
        Scenario::Reliable => {
            Timing { storm: Duration::from_secs(20), calm: Duration::from_secs(60) }
        }
    };
    let mut world = World::new(seed, scenario);
    while world.elapsed() < timing.storm {
        world.step(true);
    }
    world.end_storm();
    while world.elapsed() < timing.storm + timing.calm {
        world.step(false);
        if world.complaint().is_none() {
            break;
        }
    }
    world.assert_well();
    world
}

/// Runs every seed on every core; `seen` is shown each world that ended well.
fn every_seed(scenario: Scenario, seen: impl Fn(&World) + Sync) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seeds = match number("TIDEWIRE_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            0..number("TIDEWIRE_SEEDS").unwrap_or(match scenario {
                Scenario::Plain => PLAIN_SEEDS,
                Scenario::Reliable => RELIABLE_SEEDS,
            })
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (seeds, seen) = (seeds.clone(), &seen);
            scope.spawn(move || {
                for seed in seeds.filter(|seed| seed % threads == thread) {
                    match std::panic::catch_unwind(|| run(seed, scenario)) {
                        Ok(world) => seen(&world),
                        Err(_) => panic!(
                            "seed {seed} failed; replay it with TIDEWIRE_SEED={seed} {COMMAND}"
                        ),
                    }
                }
            });
        }
    });
}

#[test]
fn nothing_is_lost_doubled_or_reordered_over_a_bad_link() {
    every_seed(Scenario::Plain, |_| ());
}

#[test]
fn nothing_is_lost_or_given_up_too_early_with_acknowledgements() {
    let (parked, replayed) = (AtomicU64::new(0), AtomicU64::new(0));
    every_seed(Scenario::Reliable, |world| {
        parked.fetch_add(world.log.consumers.parked, Ordering::Relaxed);
        replayed.fetch_add(world.log.consumers.replayed, Ordering::Relaxed);
    });
    println!("{parked:?} events were parked, {replayed:?} replayed");
}
