//! `tidewire bench acks`: what it costs that sessions settle every event.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{
    crowd::{Acks, Begin, Check, Crowd},
    feed::{Feed, LogFeed},
    machine::{self, Pins},
    report::{Spread, Table},
    round::{self, Load, Round},
    server::{Launch, Measured},
};

/// Send every event to many sessions, with acks and without in turn
///
/// Two servers take turns in one run. The sessions of one settle what they get as our clients do:
/// cumulatively, a quarter of the window at once, less after a delay. Prints CPU time of each server
/// for a million deliveries, latencies, and the ratios. Fails if an event is lost, repeated or out
/// of order.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Sessions on each side, each subscribed to everything
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
    /// Events a second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Most events that a session was sent and has not settled
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1024))]
    window: u32,
    /// Milliseconds after which a session settles what is less than a quarter of its window
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=4000))]
    delay_ms: u64,
    /// Seconds a round
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Bytes of each event's payload
    #[arg(long, default_value_t = 250)]
    payload: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    launch: Launch,
}

/// The first round of each side is not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long sessions may take to become live.
const LIVE: Duration = Duration::from_secs(60);

/// One side: its server, who writes, who reads, and what came of it.
struct Side {
    server: Measured,
    feed: Feed,
    crowd: Crowd,
    rounds: Vec<Round>,
}

impl Side {
    async fn open(args: &Args, pins: Pins, acks: Option<Acks>) -> Result<Self> {
        let server = args.launch.start(pins.server).await?;
        let address = server.child.address;
        let feed = Feed::Log(LogFeed::open(address, args.payload).await?);
        let mut crowd = Crowd::new(args.payload, Check::Exact);
        crowd.acks = acks;
        crowd.tally.begin_at(feed.base());
        crowd.join(address, args.sessions as usize, Begin::End).await?;
        crowd.live(LIVE).await?;
        Ok(Self { server, feed, crowd, rounds: Vec::new() })
    }

    async fn round(&mut self, load: Load, length: Duration) -> Result<Round> {
        round::run(&self.crowd.tally, &mut self.feed, &self.server.child, load, length).await
    }

    fn losses(&self) -> u64 {
        self.crowd.tally.losses(self.feed.head())
    }
}

/// A figure: its name, its key, and how it is got from a round.
type Figure = (&'static str, &'static str, fn(&Round) -> f64);

const FIGURES: [Figure; 4] = [
    ("deliveries a second", "deliveries_per_second", Round::deliveries_per_second),
    ("CPU-s a million deliveries", "cpu_seconds_per_million", Round::cpu_per_million),
    ("latency p50, ms", "latency_p50_ms", |round| round.latency_ms(0.5)),
    ("latency p99, ms", "latency_p99_ms", |round| round.latency_ms(0.99)),
];

/// Runs the benchmark.
///
/// # Errors
///
/// It could not be run, or an event was lost, repeated or out of order.
pub(super) async fn run(args: Args, pins: Pins) -> Result<()> {
    if !args.rate.is_finite() || args.rate <= 0.0 || !(0.1..=600.0).contains(&args.seconds) {
        bail!("--rate has to be above 0, --seconds from 0.1 to 600");
    }
    machine::check_open_files(u64::from(args.sessions) * 2, u64::from(args.sessions) * 2)?;
    let acks = Acks { window: args.window, delay: Duration::from_millis(args.delay_ms) };
    let (load, length) = (Load::Rate(args.rate), Duration::from_secs_f64(args.seconds));
    let mut none = Side::open(&args, pins, None).await?;
    let mut each = Side::open(&args, pins, Some(acks)).await?;
    for side in [&mut none, &mut each] {
        side.round(load, WARM_UP).await?;
    }
    for number in 0..args.rounds {
        // Who is first takes turns, too.
        let mut sides = [&mut none, &mut each];
        if number % 2 == 1 {
            sides.reverse();
        }
        for side in sides {
            let round = side.round(load, length).await?;
            side.rounds.push(round);
        }
    }

    let losses = none.losses() + each.losses();
    if args.json {
        println!("{}", report(&args, &none.rounds, &each.rounds, losses));
    } else {
        println!(
            "acks: {} sessions a side, {} rounds, {} events a second, window {}, {} ms; {}",
            args.sessions,
            args.rounds,
            args.rate,
            args.window,
            args.delay_ms,
            pins.note()
        );
        let mut table = Table::default();
        table.heading("median (range)", "acks", "none");
        for (name, _, of) in &FIGURES {
            let of_none = Spread::of(none.rounds.iter().map(of));
            table.line(name, Spread::of(each.rounds.iter().map(of)), Some(of_none));
        }
        for (name, _, of) in &FIGURES[1..] {
            table.line(&format!("{name}: × none"), ratio(&each.rounds, &none.rounds, *of), None);
        }
        table.print();
        println!("  lost, repeated or out of order: {losses} (every position checked)");
    }
    if losses > 0 {
        bail!("{losses} events were lost, repeated or out of order");
    }
    Ok(())
}

/// The ratio of medians, with the range of the ratios of rounds that were run side by side.
fn ratio(each: &[Round], none: &[Round], of: fn(&Round) -> f64) -> Spread {
    let pairs = Spread::of(each.iter().zip(none).map(|(each, none)| of(each) / of(none)));
    let median = |rounds: &[Round]| Spread::of(rounds.iter().map(of)).median;
    Spread { median: median(each) / median(none), ..pairs }
}

fn report(args: &Args, none: &[Round], each: &[Round], losses: u64) -> Value {
    let figures = |rounds: &[Round]| -> Value {
        let figure =
            |(_, key, of): &Figure| ((*key).to_owned(), Spread::of(rounds.iter().map(of)).json());
        Value::Object(FIGURES.iter().map(figure).collect())
    };
    let ratios =
        FIGURES[1..].iter().map(|(_, key, of)| ((*key).to_owned(), ratio(each, none, *of).json()));
    json!({
        "bench": "acks",
        "sessions": args.sessions,
        "window": args.window,
        "losses": losses,
        "acks": figures(each),
        "none": figures(none),
        "ratio": Value::Object(ratios.collect()),
    })
}
