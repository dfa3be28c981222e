//! Live queries and summaries over a bad link, with real sessions and real clients at its ends.
//!
//! A model of a projection changes its documents by putting, patching and deleting them; it is
//! rebuilt into other generations and swapped, its tombstones are swept, it loses its last steps
//! and takes them again, and the log is restored from a backup. Connections are cut, noticed by
//! one end or none, and readers are slow, so that they fall behind.
//!
//! **At every step**: each picture that an application is shown is exactly the one that the
//! documents of its generation gave at its position. Each summary counts exactly the events
//! between its positions, and nothing lies between two summaries.
//!
//! **Once faults stop**, every picture is the present one within [`CALM`], and the counts of all
//! summaries add up to the log.
//!
//! `TIDEWIRE_SEED=n` runs one seed, `TIDEWIRE_SEEDS=n` that many. A failure prints its seed.

#[path = "../simulation/chance.rs"]
mod chance;
mod feeds;
#[path = "../simulation/link.rs"]
mod link;
mod program;
mod projection;
mod server;
mod world;

use std::{sync::Mutex, time::Duration};

use world::{Tally, World};

/// How long faults go on.
const STORM: Duration = Duration::from_secs(25);

/// How soon after that everything has to be well.
const CALM: Duration = Duration::from_secs(20);

/// How many seeds a test run tries. Measured: 140 ms of one core each in a
/// debug build.
const SEEDS: u64 = 250;

fn run(seed: u64) -> Tally {
    let mut world = World::new(seed);
    while world.elapsed() < STORM {
        world.step(true);
    }
    while world.elapsed() < STORM + CALM {
        world.step(false);
        if world.complaint().is_none() {
            break;
        }
    }
    if let Some(complaint) = world.complaint() {
        panic!("seed {seed}: {complaint}");
    }
    world.tally()
}

#[test]
fn pictures_are_true_and_counts_add_up_over_a_bad_link() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seeds = match number("TIDEWIRE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIDEWIRE_SEEDS").unwrap_or(SEEDS),
    };
    let all = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (seeds, all) = (seeds.clone(), &all);
            scope.spawn(move || {
                for seed in seeds.filter(|seed| seed % threads == thread) {
                    match std::panic::catch_unwind(|| run(seed)) {
                        Ok(tally) => all.lock().expect("nobody panics with it").add(&tally),
                        Err(_) => panic!(
                            "seed {seed} failed; replay it with TIDEWIRE_SEED={seed} \
                             cargo test -p tidewire-protocol --test live_queries"
                        ),
                    }
                }
            });
        }
    });
    let tally = all.into_inner().expect("nobody panicked with it");
    println!("{tally:?}");
    if number("TIDEWIRE_SEED").is_none() {
        tally.assert_everything_was_tried();
    }
}
