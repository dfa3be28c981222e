//! `tidewire bench fanout`: every event to every session.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{
    child::Child,
    crowd::{Begin, Check, Crowd},
    feed::{BareFeed, Feed, LogFeed},
    machine::{self, DATABASE, Pins, SOCKETS},
    report::{Spread, Table},
    round::{self, Load, Round},
    server::{Launch, Measured},
};

/// Send every event to many sessions
///
/// Prints deliveries a second, latency from sending an append to receiving its event, CPU time of
/// the server for a million deliveries, and its memory a session. Fails if an event is lost,
/// repeated or out of order.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Sessions, each subscribed to everything
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
    /// Events a second; 0 is as many as everybody gets
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// With --rate 0: events that are under way, from sending to the last session
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    /// Seconds a round
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Bytes of each event's payload
    #[arg(long, default_value_t = 250)]
    payload: usize,
    /// Check the position of every single event, not only of each message's ends
    #[arg(long)]
    verify: bool,
    /// Take turns with a bare writer of the same bytes, and compare
    #[arg(long)]
    limit: bool,
    /// Rounds [default: 5 with --limit, else 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
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

/// One side: who writes, who reads, and what came of it.
struct Side {
    feed: Feed,
    crowd: Crowd,
    rounds: Vec<Round>,
}

/// Runs the benchmark.
///
/// # Errors
///
/// It could not be run, or an event was lost, repeated or out of order.
pub(super) async fn run(args: Args, pins: Pins) -> Result<()> {
    if !args.rate.is_finite() || args.rate < 0.0 || !(0.1..=600.0).contains(&args.seconds) {
        bail!("--rate has to be 0 or more, --seconds from 0.1 to 600");
    }
    let sessions = args.sessions as usize;
    // The server has a second handle on each socket; with --limit there are two crowds here.
    let crowds = if args.limit { 2 } else { 1 };
    machine::check_open_files(u64::from(args.sessions) * crowds, u64::from(args.sessions) * 2)?;
    let check = if args.verify { Check::Exact } else { Check::Ends };
    let length = Duration::from_secs_f64(args.seconds);
    let load = match args.rate {
        0.0 => Load::Saturated(args.in_flight as usize),
        rate => Load::Rate(rate),
    };

    let Measured { child: server, .. } = &args.launch.start(pins.server).await?;
    // The connection for appends is the first session: what only the first one costs is paid.
    let feed = Feed::Log(LogFeed::open(server.address, args.payload).await?);
    let mut crowd = Crowd::new(args.payload, check);
    crowd.tally.begin_at(feed.base());
    let empty = server.resident_bytes()?;
    crowd.join(server.address, sessions, Begin::End).await?;
    crowd.live(LIVE).await?;
    let idle = server.resident_bytes()?;
    let mut tidewire = Side { feed, crowd, rounds: Vec::new() };
    tidewire.round(server, load, WARM_UP).await?;

    let mut bare = None;
    let mut body = None;
    if args.limit {
        body = Some(body_bytes(sessions, pins).await?);
        let payload = args.payload.to_string();
        let writer = Child::start(&["writer", "--payload", &payload], pins.server).await?;
        let shape = tidewire.rounds[0].shape();
        let feed = Feed::Bare(BareFeed::open(writer.address, shape).await?);
        let mut crowd = Crowd::new(args.payload, check);
        crowd.join(writer.address, sessions, Begin::Silent).await?;
        crowd.live(LIVE).await?;
        let mut side = Side { feed, crowd, rounds: Vec::new() };
        side.round(&writer, load, WARM_UP).await?;
        side.rounds.clear();
        bare = Some((writer, side));
    }
    tidewire.rounds.clear();

    let rounds = args.rounds.unwrap_or(if args.limit { 5 } else { 1 });
    for number in 0..rounds {
        if number % 2 == 0 {
            tidewire.round(server, load, length).await?;
        }
        if let Some((writer, bare)) = &mut bare {
            if let (Feed::Bare(feed), Some(last)) = (&mut bare.feed, tidewire.rounds.last()) {
                feed.set_shape(last.shape());
            }
            bare.round(writer, load, length).await?;
        }
        if number % 2 == 1 {
            tidewire.round(server, load, length).await?;
        }
    }

    let report = Report {
        sessions,
        idle_bytes: (idle as f64 - empty as f64) / sessions as f64,
        loaded_bytes: (server.resident_bytes()? as f64 - empty as f64) / sessions as f64,
        body_bytes: body,
        losses: tidewire.losses(),
        bare_losses: bare.as_ref().map(|(_, side)| side.losses()),
        tidewire: tidewire.rounds,
        bare: bare.map(|(_, side)| side.rounds),
        verified: args.verify,
        pins,
    };
    if args.json {
        println!("{}", report.json());
    } else {
        report.print();
    }
    report.judge()
}

/// What a connection costs a bare Actix server, in bytes.
async fn body_bytes(sessions: usize, pins: Pins) -> Result<f64> {
    let child = Child::start(&["body"], pins.server).await?;
    let mut crowd = Crowd::new(0, Check::Ends);
    crowd.join(child.address, 1, Begin::Silent).await?;
    let empty = child.resident_bytes()?;
    crowd.join(child.address, sessions, Begin::Silent).await?;
    Ok((child.resident_bytes()? as f64 - empty as f64) / sessions as f64)
}

impl Side {
    async fn round(&mut self, child: &Child, load: Load, length: Duration) -> Result<()> {
        let round = round::run(&self.crowd.tally, &mut self.feed, child, load, length).await?;
        self.rounds.push(round);
        Ok(())
    }

    fn losses(&self) -> u64 {
        self.crowd.tally.losses(self.feed.head())
    }
}

/// What came of it.
struct Report {
    sessions: usize,
    idle_bytes: f64,
    loaded_bytes: f64,
    body_bytes: Option<f64>,
    losses: u64,
    bare_losses: Option<u64>,
    tidewire: Vec<Round>,
    bare: Option<Vec<Round>>,
    verified: bool,
    pins: Pins,
}

/// A figure: its name, its key, and how it is got from a round.
type Figure = (&'static str, &'static str, fn(&Round) -> f64);

const FIGURES: [Figure; 10] = [
    ("deliveries a second", "deliveries_per_second", Round::deliveries_per_second),
    ("latency p50, ms", "latency_p50_ms", |round| round.latency_ms(0.5)),
    ("latency p99, ms", "latency_p99_ms", |round| round.latency_ms(0.99)),
    ("latency max, ms", "latency_max_ms", |round| round.latency_ms(1.0)),
    ("CPU-s a million deliveries", "cpu_seconds_per_million", Round::cpu_per_million),
    ("  of that, sockets", "cpu_seconds_per_million_sockets", |round| {
        round.cpu_per_million_of(SOCKETS)
    }),
    ("  of that, database", "cpu_seconds_per_million_database", |round| {
        round.cpu_per_million_of(DATABASE)
    }),
    ("events a frame", "events_per_frame", |round| {
        round.received.events as f64 / round.received.messages.max(1) as f64
    }),
    ("frames a read", "frames_per_read", |round| {
        round.received.messages as f64 / round.received.reads.max(1) as f64
    }),
    ("bytes a delivery", "bytes_per_delivery", |round| {
        round.received.bytes as f64 / round.received.events.max(1) as f64
    }),
];

/// The figures that are compared with the bare writer's.
const COMPARED: [&str; 2] = ["cpu_seconds_per_million", "latency_p99_ms"];

impl Report {
    /// The ratio of medians, and of each round to the one beside it.
    fn ratio(&self, of: fn(&Round) -> f64) -> Option<Spread> {
        let bare = self.bare.as_ref()?;
        let each =
            Spread::of(self.tidewire.iter().zip(bare).map(|(ours, bare)| of(ours) / of(bare)));
        let median = |rounds: &[Round]| Spread::of(rounds.iter().map(of)).median;
        Some(Spread { median: median(&self.tidewire) / median(bare), ..each })
    }

    fn compared(&self) -> impl Iterator<Item = (&Figure, Spread)> {
        FIGURES
            .iter()
            .filter(|(_, key, _)| COMPARED.contains(key))
            .filter_map(|figure| Some((figure, self.ratio(figure.2)?)))
    }

    fn events(&self) -> u64 {
        self.tidewire.iter().map(|round| round.events).sum()
    }

    fn json(&self) -> Value {
        let figures = |rounds: &[Round]| -> Value {
            let figure = |(_, key, of): &Figure| {
                ((*key).to_owned(), Spread::of(rounds.iter().map(of)).json())
            };
            Value::Object(FIGURES.iter().map(figure).collect())
        };
        let ratios = self.compared().map(|((_, key, _), ratio)| ((*key).to_owned(), ratio.json()));
        json!({
            "bench": "fanout",
            "sessions": self.sessions,
            "rounds": self.tidewire.len(),
            "events": self.events(),
            "losses": self.losses,
            "verified": self.verified,
            "pinned": self.pins.server.is_some(),
            "idle_bytes_per_session": self.idle_bytes.round(),
            "end_bytes_per_session": self.loaded_bytes.round(),
            "actix_body_bytes_per_session": self.body_bytes.map(f64::round),
            "tidewire": figures(&self.tidewire),
            "bare_writer": self.bare.as_deref().map(figures),
            "ratio_to_bare_writer": Value::Object(ratios.collect()),
        })
    }

    fn print(&self) {
        let rounds = self.tidewire.len();
        println!(
            "fanout: {} sessions, {} events in {rounds} round{}; {}",
            self.sessions,
            self.events(),
            if rounds == 1 { "" } else { "s" },
            self.pins.note()
        );
        let mut table = Table::default();
        if self.bare.is_some() {
            table.heading("median (range)", "tidewire", "bare writer");
        }
        for (name, _, of) in &FIGURES {
            let bare = self.bare.as_ref().map(|bare| Spread::of(bare.iter().map(of)));
            table.line(name, Spread::of(self.tidewire.iter().map(of)), bare);
        }
        let single = |figure: f64| Spread::of([figure / 1024.0]);
        table.line("idle memory a session, KiB", single(self.idle_bytes), None);
        table.line("memory a session at the end, KiB", single(self.loaded_bytes), None);
        if let Some(body) = self.body_bytes {
            table.line("bare Actix body a session, KiB", single(body), None);
            table.line("  idle session above it, KiB", single(self.idle_bytes - body), None);
        }
        for ((name, ..), ratio) in self.compared() {
            table.line(&format!("{name}: × bare writer"), ratio, None);
        }
        table.print();
        let how = if self.verified { "every position checked" } else { "ends of messages checked" };
        println!("  lost, repeated or out of order: {} ({how})", self.losses);
    }

    fn judge(&self) -> Result<()> {
        if self.losses > 0 {
            bail!("{} events were lost, repeated or out of order", self.losses);
        }
        if self.bare_losses.is_some_and(|losses| losses > 0) {
            bail!("the bare writer's events did not all arrive: the comparison means nothing");
        }
        Ok(())
    }
}
