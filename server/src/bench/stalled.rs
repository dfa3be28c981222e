//! `tidewire bench stalled`: what sessions that stop reading cost the server and the others.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;

use super::{
    crowd::{Begin, Check, Crowd},
    feed::{Feed, LogFeed},
    machine::{self, Pins},
    metrics::sessions_behind,
    report::{Spread, Table},
    round::{self, Load},
    server::{Launch, Measured},
};

/// Let some of many sessions stop reading
///
/// Rounds in which everybody reads take turns with rounds in which some do not; after each of
/// those they read again and have to get all that they missed. Prints what a stalled session costs
/// the server in memory, and the others in latency. Fails if an event is lost, repeated or out of
/// order.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Sessions, each subscribed to everything
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
    /// How many of them stop reading
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    stalled: u32,
    /// Events a second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Seconds a round
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// Rounds of each kind
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Bytes of each event's payload: a round has to be more than the kernel keeps for a socket
    #[arg(long, default_value_t = 6000)]
    payload: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    launch: Launch,
}

/// How long sessions may take to become live, or to get what they missed.
const CATCH_UP: Duration = Duration::from_secs(120);

/// The figures of one kind of round.
#[derive(Debug, Default)]
struct Rounds {
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    /// By how much the server grew, in bytes.
    growth: Vec<f64>,
}

/// Runs the benchmark.
///
/// # Errors
///
/// It could not be run, or an event was lost, repeated or out of order.
pub(super) async fn run(args: Args, pins: Pins) -> Result<()> {
    let rate_is_good = args.rate.is_finite() && args.rate > 0.0;
    // A socket that takes nothing for a minute is closed by the server.
    if !rate_is_good || !(0.1..=40.0).contains(&args.seconds) || args.stalled >= args.sessions {
        bail!("--rate has to be above 0, --seconds from 0.1 to 40, --stalled below --sessions");
    }
    machine::check_open_files(u64::from(args.sessions), u64::from(args.sessions) * 2)?;
    let (sessions, stalled) = (args.sessions as usize, args.stalled as usize);
    let (load, length) = (Load::Rate(args.rate), Duration::from_secs_f64(args.seconds));

    let Measured { child: server, .. } = &args.launch.start(pins.server).await?;
    let mut feed = Feed::Log(LogFeed::open(server.address, args.payload).await?);
    let mut crowd = Crowd::new(args.payload, Check::Exact);
    let tally = crowd.tally.clone();
    tally.begin_at(feed.base());
    crowd.join(server.address, sessions, Begin::End).await?;
    crowd.live(CATCH_UP).await?;
    round::run(&tally, &mut feed, server, load, Duration::from_secs(1).min(length)).await?;

    let (mut all_read, mut some_stall) = (Rounds::default(), Rounds::default());
    let (mut behind, mut unread) = (usize::MAX, u64::MAX);
    for number in 0..args.rounds * 2 {
        // Either kind is first in every other pair.
        let stalls = (number % 2 == 1) != (number / 2 % 2 == 1);
        let rounds = if stalls { &mut some_stall } else { &mut all_read };
        if stalls {
            tally.stall(stalled, true);
        }
        let before = server.resident_bytes()?;
        let round = round::run(&tally, &mut feed, server, load, length).await?;
        rounds.p50_ms.push(round.latency_ms(0.5));
        rounds.p99_ms.push(round.latency_ms(0.99));
        rounds.growth.push(server.resident_bytes()? as f64 - before as f64);
        if stalls {
            behind = behind.min(sessions_behind(server.address).await?);
            let bytes = round.received.bytes / (sessions - stalled) as u64;
            unread = unread.min(bytes);
            tally.stall(stalled, false);
        }
        if !tally.everybody_has(feed.head(), CATCH_UP).await? {
            // They never will: the losses say so.
            break;
        }
    }

    let losses = tally.losses(feed.head());
    let p99 = ratio(&some_stall.p99_ms, &all_read.p99_ms);
    let usual = Spread::of(all_read.growth.iter().copied()).median.max(0.0);
    let cost = Spread::of(
        some_stall.growth.iter().map(|growth| (growth - usual) / stalled as f64 / 1024.0),
    );
    let spread = |figures: &[f64]| Spread::of(figures.iter().copied());
    if args.json {
        let rounds = |rounds: &Rounds| {
            json!({
                "latency_p50_ms": spread(&rounds.p50_ms).json(),
                "latency_p99_ms": spread(&rounds.p99_ms).json(),
                "growth_bytes": spread(&rounds.growth).json(),
            })
        };
        let report = json!({
            "bench": "stalled",
            "sessions": sessions,
            "stalled": stalled,
            "stalled_and_behind": behind,
            "unread_bytes_per_session": unread,
            "rounds": args.rounds,
            "losses": losses,
            "pinned": pins.server.is_some(),
            "all_read": rounds(&all_read),
            "some_stall": rounds(&some_stall),
            "kib_per_stalled_session": cost.json(),
            "ratio_of_p99": p99.json(),
        });
        println!("{report}");
    } else {
        println!(
            "stalled: {stalled} of {sessions} sessions, {} rounds of each; {}",
            args.rounds,
            pins.note()
        );
        let mut table = Table::default();
        table.heading("median (range)", "everybody reads", "some do not");
        table.line("latency p50, ms", spread(&all_read.p50_ms), Some(spread(&some_stall.p50_ms)));
        table.line("latency p99, ms", spread(&all_read.p99_ms), Some(spread(&some_stall.p99_ms)));
        table.line("p99 of the others: × everybody reads", p99, None);
        table.line("server memory a stalled session, KiB", cost, None);
        table.print();
        println!(
            "  behind at the end of each stalled round: at least {behind}, with {} KiB sent to \
             each of the others\n  lost, repeated or out of order: {losses} (every position checked)",
            unread / 1024
        );
    }
    if losses > 0 {
        bail!("{losses} events were lost, repeated or out of order");
    }
    if behind < stalled {
        bail!(
            "only {behind} of {stalled} stalled sessions were behind: the sockets were not full; \
             use more --rate or --seconds"
        );
    }
    Ok(())
}

/// The ratio of medians, and of neighbours.
fn ratio(ours: &[f64], theirs: &[f64]) -> Spread {
    let each = Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs));
    let median = |figures: &[f64]| Spread::of(figures.iter().copied()).median;
    Spread { median: median(ours) / median(theirs), ..each }
}
