//! `tidewire bench`: what the transport costs, measured from outside on real sockets.
//!
//! Each benchmark starts the server as a child process of its own, so that CPU time and memory are
//! the server's alone, and opens its sockets over loopback. What is compared is compared within
//! one run, in rounds that take turns. Nothing here outlives the program: children are killed when
//! it ends, however it ends.

mod acks;
mod body;
mod child;
mod crowd;
mod fanout;
mod feed;
mod frames;
mod herd;
mod live_queries;
mod machine;
mod metrics;
mod report;
mod round;
mod server;
mod stalled;
mod writer;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;

/// Measure speed and memory on this machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    Acks(acks::Args),
    Fanout(fanout::Args),
    Herd(herd::Args),
    LiveQueries(live_queries::Args),
    Stalled(stalled::Args),
    #[command(hide = true)]
    Server(server::Args),
    #[command(hide = true)]
    Writer(writer::Args),
    #[command(hide = true)]
    Body,
}

/// No benchmark may take longer than this, whatever it was asked for.
const LONGEST: Duration = Duration::from_secs(3600);

/// Runs the verb.
///
/// # Errors
///
/// The benchmark could not be run, or an event was lost, doubled or out of order.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.bench {
        Bench::Acks(args) => measure(|pins| acks::run(args, pins)),
        Bench::Fanout(args) => measure(|pins| fanout::run(args, pins)),
        Bench::Herd(args) => measure(|pins| herd::run(args, pins)),
        Bench::LiveQueries(args) => measure(|pins| live_queries::run(args, pins)),
        Bench::Stalled(args) => measure(|pins| stalled::run(args, pins)),
        Bench::Server(args) => server::run(args),
        Bench::Writer(args) => writer::run(&args),
        Bench::Body => body::run(),
    }
}

/// Runs a benchmark on one thread of its own core, until it ends or is interrupted.
fn measure<F: Future<Output = Result<()>>>(work: impl FnOnce(machine::Pins) -> F) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("tidewire: this is a debug build: its figures mean little (use --release)");
    }
    let pins = machine::pin();
    machine::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let outcome = local.block_on(&runtime, async {
        tokio::select! {
            outcome = work(pins) => outcome,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            () = tokio::time::sleep(LONGEST) => bail!("took longer than an hour: gave up"),
        }
    });
    // Sessions first: they hold sockets of the runtime.
    drop(local);
    outcome
}
