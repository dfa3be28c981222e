//! Client and server over a bad link, for thousands of seeds in a test run and any number beside.
//!
//! A real [`Session`](tidewire_protocol::Session) and a real [`ClientCore`] talk through frames
//! that are delayed, split, cut and swallowed, while events are appended from both sides, nodes
//! drain, and the log is restored from a backup. Time is simulated and jumps.
//!
//! Safety, at every event: each subscription gets exactly the matching events, each once, in
//! order; each append takes effect once and is settled once, truthfully. Liveness: once faults
//! stop, everything is caught up and settled within [`CALM`], and dead sessions are gone.
//!
//! `TIDEWIRE_SEED=n` runs one seed, `TIDEWIRE_SEEDS=n` that many. A failure prints its seed.

mod chance;
mod client;
mod link;
mod log;
mod server;
mod world;

use std::time::Duration;

use world::World;

/// How long faults go on.
const STORM: Duration = Duration::from_secs(25);

/// How soon after that everything has to be well.
const CALM: Duration = Duration::from_secs(15);

/// What runs this test again, with the seed in `TIDEWIRE_SEED`.
const COMMAND: &str = "cargo test -p tidewire-protocol --test simulation";

/// How many seeds a test run tries. Measured: 11 ms of one core each, in a debug build.
const SEEDS: u64 = 2_000;

fn run(seed: u64) {
    let mut world = World::new(seed);
    while world.elapsed() < STORM {
        world.step(true);
    }
    world.end_storm();
    while world.elapsed() < STORM + CALM {
        world.step(false);
        if world.is_well() {
            break;
        }
    }
    world.assert_well();
}

#[test]
fn nothing_is_lost_doubled_or_reordered_over_a_bad_link() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seeds = match number("TIDEWIRE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIDEWIRE_SEEDS").unwrap_or(SEEDS),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let seeds = seeds.clone();
            scope.spawn(move || {
                for seed in seeds.filter(|seed| seed % threads == thread) {
                    let failed = std::panic::catch_unwind(|| run(seed)).is_err();
                    assert!(
                        !failed,
                        "seed {seed} failed; replay it with TIDEWIRE_SEED={seed} {COMMAND}"
                    );
                }
            });
        }
    });
}
