//! `tidewire bench herd`: very many sessions come back at once, each far behind.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde_json::json;

use super::{
    child::Child,
    crowd::{Begin, Check, Crowd},
    feed::LogFeed,
    machine::{self, Pins},
    metrics::metric,
    report::{Spread, Table},
    server::{Launch, Measured},
};

/// Let many sessions resume far behind at once
///
/// The sessions read everything from the log's start while appends go on, until all are live.
/// Prints how many pages were read from the store for them, and what appends took meanwhile,
/// compared with before and after. Fails if an event is lost, repeated or out of order, or a session does
/// not become live.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Sessions
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
    /// Events that each of them is behind
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Events that are appended a second, meanwhile
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Seconds for which appends are measured before and after
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Bytes of each event's payload
    #[arg(long, default_value_t = 250)]
    payload: usize,
    /// Seconds that the sessions may take to become live
    #[arg(long, default_value_t = 900)]
    patience: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    launch: Launch,
}

/// Events in each append that fills the log.
const FILL: usize = 250;

/// Events a catch-up page of the transport has.
const PAGE_EVENTS: u64 = 1024;

/// Pages read from the store for sessions that catch up.
const PAGE_READS: &str = "tidewire_catch_up_reads_total";

/// How long the last appends may take.
const SETTLE: Duration = Duration::from_secs(30);

/// Runs the benchmark.
///
/// # Errors
///
/// It could not be run, or an event was lost, repeated or out of order, or not everybody became
/// live.
pub(super) async fn run(args: Args, pins: Pins) -> Result<()> {
    let rate_is_good = args.rate.is_finite() && args.rate > 0.0;
    if !rate_is_good || !(0.1..=600.0).contains(&args.seconds) {
        bail!("--rate has to be above 0, --seconds from 0.1 to 600");
    }
    machine::check_open_files(u64::from(args.sessions), u64::from(args.sessions) * 2)?;
    let sessions = args.sessions as usize;
    let quiet = Duration::from_secs_f64(args.seconds);

    let Measured { child: server, .. } = &args.launch.start(pins.server).await?;
    let appends = Appends { address: server.address, payload: args.payload, rate: args.rate };
    let mut feed = LogFeed::open(server.address, args.payload).await?;
    let base = feed.base();
    fill(&mut feed, args.events).await?;
    drop(feed);
    appends.run(Duration::from_secs(1).min(quiet), Arc::default()).await?;
    let before = appends.run(quiet, Arc::default()).await?.latency;

    let reads = metric(server.address, PAGE_READS).await?;
    let cpu = server.cpu()?;
    let memory = server.resident_bytes()?;
    let mut crowd = Crowd::new(args.payload, Check::Exact);
    let tally = crowd.tally.clone();
    let start = Instant::now();
    let patience = Duration::from_secs(args.patience);
    let all_live = Arc::new(AtomicBool::new(false));
    let (joined, appended) = tokio::join!(
        async {
            let joined = async {
                crowd.join(server.address, sessions, Begin::Start).await?;
                crowd.live(patience).await
            };
            let joined = joined.await;
            all_live.store(true, Ordering::Relaxed);
            (joined, start.elapsed())
        },
        appends.run(patience, all_live.clone()),
    );
    let (joined, took) = joined;
    let Appended { latency: during, head } = appended?;
    tally.everybody_has(head, SETTLE).await?;
    joined?;
    let reads = metric(server.address, PAGE_READS).await? - reads;
    let cpu = server.cpu()?.since(&cpu).total;
    let grown = server.resident_bytes()? as f64 - memory as f64;
    let received = tally.received();
    let losses = tally.losses(head);
    // A database that is measured on may have had events before.
    let pages = head.div_ceil(PAGE_EVENTS);
    drop(crowd);
    gone(server).await?;
    let after = appends.run(quiet, Arc::default()).await?.latency;

    let p99 = |latency: &Histogram<u64>| latency.value_at_quantile(0.99) as f64 / 1e3;
    let mut alone = before.clone();
    alone.add(&after)?;
    let ratio = p99(&during) / p99(&alone);
    let reads_ratio = reads / pages as f64;
    let rate = received.events as f64 / took.as_secs_f64();
    let per_million = cpu * 1e6 / received.events.max(1) as f64;
    if args.json {
        let latency = |latency: &Histogram<u64>| {
            json!({
                "appends": latency.len(),
                "p50_ms": latency.value_at_quantile(0.5) as f64 / 1e3,
                "p99_ms": p99(latency),
                "max_ms": latency.max() as f64 / 1e3,
            })
        };
        let report = json!({
            "bench": "herd",
            "sessions": sessions,
            "events_behind": head - base - during.len(),
            "seconds": took.as_secs_f64(),
            "deliveries_per_second": rate.round(),
            "cpu_seconds_per_million": per_million,
            "pages_read": reads,
            "distinct_pages": pages,
            "ratio_of_pages": reads_ratio,
            "append_before": latency(&before),
            "append_during": latency(&during),
            "append_after": latency(&after),
            "ratio_of_append_p99": ratio,
            "bytes_per_session": (grown / sessions as f64).round(),
            "losses": losses,
            "pinned": pins.server.is_some(),
        });
        println!("{report}");
    } else {
        println!("herd: {sessions} sessions, {} events behind; {}", args.events, pins.note());
        let single = |figure: f64| Spread::of([figure]);
        let mut table = Table::default();
        table.line("until everybody was live, s", single(took.as_secs_f64()), None);
        table.line("deliveries a second", single(rate), None);
        table.line("CPU-s a million deliveries", single(per_million), None);
        table.line(
            "memory a session at the end, KiB",
            single(grown / sessions as f64 / 1024.0),
            None,
        );
        table.line("pages read from the store", single(reads), None);
        table.line("  × distinct pages", single(reads_ratio), None);
        table.line("append p99 before, ms", single(p99(&before)), None);
        table.line("append p99 with the herd, ms", single(p99(&during)), None);
        table.line("append p99 after, ms", single(p99(&after)), None);
        table.line("append p99: × without", single(ratio), None);
        table.print();
        println!("  lost, repeated or out of order: {losses} (every position checked)");
    }
    if losses > 0 {
        bail!("{losses} events were lost, repeated or out of order");
    }
    Ok(())
}

/// Fills the log with `events`.
async fn fill(feed: &mut LogFeed, events: u64) -> Result<()> {
    let mut left = events as usize;
    while left > 0 {
        let some = left.min(FILL);
        feed.append_together(some).await?;
        left -= some;
        feed.answered_but(16, SETTLE).await?;
    }
    feed.answered_but(0, SETTLE).await?;
    feed.take_latency();
    Ok(())
}

/// Single appends at a steady rate, from a thread of their own: on that of the crowd they would wait
/// for all that the crowd has to read, and that would count as the server's doing.
#[derive(Debug, Clone, Copy)]
struct Appends {
    address: SocketAddr,
    payload: usize,
    rate: f64,
}

/// What became of appends.
struct Appended {
    latency: Histogram<u64>,
    /// The last position after them.
    head: u64,
}

impl Appends {
    /// Appends for as long as `length`, or until `done`; then waits for the answers.
    async fn run(self, length: Duration, done: Arc<AtomicBool>) -> Result<Appended> {
        let (answer, appended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("appends".to_owned()).spawn(move || {
            // Nobody waits for it any more where the benchmark has failed.
            let _ = answer.send(self.run_here(length, &done));
        })?;
        appended.await.context("the thread of the appends has died")?
    }

    fn run_here(self, length: Duration, done: &AtomicBool) -> Result<Appended> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let mut feed = LogFeed::open(self.address, self.payload).await?;
            let between = Duration::from_secs_f64(1.0 / self.rate);
            let start = Instant::now();
            let mut next = start;
            while start.elapsed() < length && !done.load(Ordering::Relaxed) {
                tokio::time::sleep_until(next.into()).await;
                feed.append_together(1).await?;
                next = (next + between).max(Instant::now() - between);
                // Held up, appends wait rather than pile up.
                feed.answered_but(32, SETTLE).await?;
            }
            feed.answered_but(0, SETTLE).await?;
            Ok(Appended { latency: feed.take_latency(), head: feed.head() })
        })
    }
}

/// Waits until the server has no sessions.
async fn gone(server: &Child) -> Result<()> {
    let deadline = Instant::now() + SETTLE;
    while metric(server.address, "tidewire_sessions").await? > 0.0 {
        if Instant::now() > deadline {
            bail!("the server still has sessions that have left");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
