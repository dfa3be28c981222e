//! Measures the PostgreSQL store against plain statements that do the same work without its
//! order: appends at one and at many connections, calls of `tidewire.enqueue` while a store moves
//! them, latency at half the top rate, appends beside a transaction that has been idle for long, and
//! reads.
//!
//! Runs on demand, on the server of `TIDEWIRE_TEST_POSTGRES`, in a database of its own:
//!
//! ```text
//! cargo bench -p tidewire-eventstore --features postgres --bench append_postgres -- \
//!     [append] [enqueue] [paced] [idle] [read] [rounds=5] [seconds=4] [idle_seconds=600]
//! ```
//!
//! Both sides take turns within each round; what counts is the median of the rounds' ratios.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, Executor, PgConnection, Row, ValueRef};
use support::Database;
use tidewire_eventstore::{
    Append, EventStore, EventType, ExpectedRevision, GlobalPosition, NewEvent, Read, StreamName,
    Target, postgres::PostgresStore,
};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Streams that each appender goes round.
const STREAMS: u64 = 100;

/// The same columns, constraints and indexes, with positions from a sequence: whoever commits
/// later may have the lower position.
const PLAIN_TABLE: &str = "
    CREATE TABLE plain (LIKE tidewire.events INCLUDING ALL);
    CREATE SEQUENCE plain_position CACHE 1;
    ALTER TABLE plain ALTER position SET DEFAULT nextval('plain_position')";

const PLAIN_INSERT: &str = "
    INSERT INTO plain (revision, recorded_at, id, stream, type, data)
    SELECT coalesce(max(p.revision) + 1, 0), clock_timestamp(), $1, $2, $3, $4::text::json
      FROM plain AS p WHERE p.stream = $2
    HAVING coalesce(max(p.revision), -1) >= -1
    RETURNING position, revision";

const ENQUEUE: &str =
    "SELECT tidewire.enqueue($1, tidewire.event('FlightScheduled', $2::text::json))";

struct Settings {
    parts: Vec<String>,
    rounds: usize,
    seconds: u64,
    idle_seconds: u64,
}

impl Settings {
    fn from_arguments() -> Self {
        let mut settings = Self { parts: vec![], rounds: 5, seconds: 4, idle_seconds: 600 };
        for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with('-')) {
            match argument.split_once('=') {
                Some(("rounds", value)) => settings.rounds = value.parse().expect("a number"),
                Some(("seconds", value)) => settings.seconds = value.parse().expect("a number"),
                Some(("idle_seconds", value)) => {
                    settings.idle_seconds = value.parse().expect("a number");
                }
                _ => settings.parts.push(argument),
            }
        }
        settings
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }
}

#[tokio::main]
async fn main() {
    let settings = Settings::from_arguments();
    let database = Database::create().await;
    let store = database.store().await;
    database.connection().await.execute(PLAIN_TABLE).await.unwrap();
    let span = Duration::from_secs(settings.seconds);
    if settings.wants("append") {
        for connections in [1, 32] {
            let (mut ours, mut plain, mut ratios) = (vec![], vec![], vec![]);
            for _ in 0..settings.rounds {
                let a = append_rate(&store, connections, span).await;
                let b = plain_rate(&database, connections, span).await;
                ours.push(a);
                plain.push(b);
                ratios.push(a / b);
            }
            println!("append, {connections} connections:");
            println!("  ours, events/s   {}", Spread::of(ours));
            println!("  plain, events/s  {}", Spread::of(plain));
            println!("  ratio            {}", Spread::of(ratios));
        }
    }
    if settings.wants("enqueue") {
        for connections in [1, 32] {
            enqueue(&settings, &database, &store, connections).await;
        }
    }
    if settings.wants("paced") {
        let (mut rates, mut medians, mut p99s) = (vec![], vec![], vec![]);
        for _ in 0..settings.rounds {
            let rate = append_rate(&store, 32, span).await / 2.0;
            let mut latencies = paced(&store, rate, span).await;
            latencies.sort_unstable();
            let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
            rates.push(rate);
            medians.push(at(0.5).as_secs_f64() * 1e3);
            p99s.push(at(0.99).as_secs_f64() * 1e3);
        }
        println!("append latency at half the top rate:");
        println!("  events/s  {}", Spread::of(rates));
        println!("  p50, ms   {}", Spread::of(medians));
        println!("  p99, ms   {}", Spread::of(p99s));
    }
    if settings.wants("read") {
        read(&settings, &database, &store).await;
    }
    if settings.wants("idle") {
        idle(&settings, &database, &store).await;
    }
    store.close().await;
}

/// A flight much as the demo has them: 250 bytes, eleven fields.
const FLIGHT: &str = r#"{"carrier":"US","carrier_name":"US Airways Inc.","flight":1117,"tail":"N557UW","origin":"EWR","dest":"CLT","dest_name":"Charlotte Douglas Intl","scheduled_departure":"2013-02-04T05:00","scheduled_arrival":"2013-02-04T06:48","distance":529,"gate":"A"}"#;

fn event() -> NewEvent {
    NewEvent::json(EventType::new("FlightScheduled").unwrap(), FLIGHT)
}

fn streams() -> Vec<StreamName> {
    let run = Uuid::new_v4().simple();
    (0..STREAMS).map(|n| StreamName::new(&format!("flight-{run}-{n}")).unwrap()).collect()
}

/// Events a second, by `connections` appenders that each wait for their answer.
async fn append_rate(store: &Arc<PostgresStore>, connections: usize, span: Duration) -> f64 {
    rate(connections, span, |stop, count| {
        let store = Arc::clone(store);
        async move {
            let streams = streams();
            for stream in streams.iter().cycle() {
                if stop.load(Relaxed) {
                    break;
                }
                let append = Append {
                    stream: stream.clone(),
                    expected: ExpectedRevision::Any,
                    events: vec![event()],
                };
                store.append(append).unwrap().await.unwrap();
                count.fetch_add(1, Relaxed);
            }
        }
    })
    .await
}

/// Events a second, by as many connections that each insert.
async fn plain_rate(database: &Database, connections: usize, span: Duration) -> f64 {
    let url = database.url.clone();
    rate(connections, span, |stop, count| {
        let url = url.clone();
        async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let streams = streams();
            for stream in streams.iter().cycle() {
                if stop.load(Relaxed) {
                    break;
                }
                let tidewire_eventstore::Payload::Json(data) = event().payload else { continue };
                sqlx::query(PLAIN_INSERT)
                    .bind(Uuid::now_v7())
                    .bind(stream.as_str())
                    .bind("FlightScheduled")
                    .bind(std::str::from_utf8(&data).unwrap())
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
                count.fetch_add(1, Relaxed);
            }
            connection.close().await.unwrap();
        }
    })
    .await
}

/// Calls of `tidewire.enqueue` while the store moves them, against plain inserts, and what was moved
/// meanwhile.
async fn enqueue(
    settings: &Settings,
    database: &Database,
    store: &Arc<PostgresStore>,
    connections: usize,
) {
    let span = Duration::from_secs(settings.seconds);
    let (mut ours, mut plain, mut ratios, mut moved) = (vec![], vec![], vec![], vec![]);
    for _ in 0..settings.rounds {
        let before = store.stats().outbox_moved_events;
        let begun = Instant::now();
        let a = enqueue_rate(database, connections, span).await;
        let took = begun.elapsed().as_secs_f64();
        moved.push((store.stats().outbox_moved_events - before) as f64 / took);
        until_moved(database).await;
        let b = plain_rate(database, connections, span).await;
        ours.push(a);
        plain.push(b);
        ratios.push(a / b);
    }
    println!("enqueue, {connections} connections:");
    println!("  ours, events/s   {}", Spread::of(ours));
    println!("  plain, events/s  {}", Spread::of(plain));
    println!("  ratio            {}", Spread::of(ratios));
    println!("  moved, events/s  {}", Spread::of(moved));
}

/// Events a second, by as many connections that each leave them in the outbox.
async fn enqueue_rate(database: &Database, connections: usize, span: Duration) -> f64 {
    let url = database.url.clone();
    rate(connections, span, |stop, count| {
        let url = url.clone();
        async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let streams = streams();
            for stream in streams.iter().cycle() {
                if stop.load(Relaxed) {
                    break;
                }
                sqlx::query(ENQUEUE)
                    .bind(stream.as_str())
                    .bind(FLIGHT)
                    .execute(&mut connection)
                    .await
                    .unwrap();
                count.fetch_add(1, Relaxed);
            }
            connection.close().await.unwrap();
        }
    })
    .await
}

/// Returns once the outbox is empty.
async fn until_moved(database: &Database) {
    let mut connection = database.connection().await;
    loop {
        let waits: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM tidewire.outbox)")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        if !waits {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn rate<F: Future<Output = ()> + Send + 'static>(
    appenders: usize,
    span: Duration,
    appender: impl Fn(Arc<AtomicBool>, Arc<AtomicU64>) -> F,
) -> f64 {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut running = JoinSet::new();
    for _ in 0..appenders {
        running.spawn(appender(Arc::clone(&stop), Arc::clone(&count)));
    }
    // Connections and plans are made outside of what is measured.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (begun, before) = (Instant::now(), count.load(Relaxed));
    tokio::time::sleep(span).await;
    let rate = (count.load(Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Relaxed);
    running.join_all().await;
    rate
}

/// Latencies of appends that come at `rate`, whatever became of those before: measured from when
/// each was due.
async fn paced(store: &Arc<PostgresStore>, rate: f64, span: Duration) -> Vec<Duration> {
    let streams = streams();
    let begun = Instant::now();
    let mut pending = JoinSet::new();
    let mut latencies = Vec::new();
    let mut sent = 0_u64;
    while begun.elapsed() < span {
        let due = (begun.elapsed().as_secs_f64() * rate) as u64;
        while sent < due {
            let due_at = begun + Duration::from_secs_f64(sent as f64 / rate);
            let append = Append {
                stream: streams[(sent % STREAMS) as usize].clone(),
                expected: ExpectedRevision::Any,
                events: vec![event()],
            };
            let answer = store.append(append).unwrap();
            pending.spawn(async move {
                answer.await.unwrap();
                due_at.elapsed()
            });
            sent += 1;
        }
        while let Some(latency) = pending.try_join_next() {
            latencies.push(latency.unwrap());
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    latencies.extend(pending.join_all().await);
    latencies
}

/// Appends beside a transaction that holds back the clean-up of dead versions.
async fn idle(settings: &Settings, database: &Database, store: &Arc<PostgresStore>) {
    let span = Duration::from_secs(settings.seconds);
    let rounds = settings.rounds;
    let mut before = Vec::new();
    for _ in 0..rounds {
        before.push(append_rate(store, 32, span).await);
    }
    let mut idle = database.connection().await;
    idle.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()")
        .await
        .unwrap();
    let since = Instant::now();
    let mut samples = Vec::new();
    while since.elapsed() < Duration::from_secs(settings.idle_seconds) {
        samples.push(append_rate(store, 32, span).await);
    }
    let after = samples.split_off(samples.len().saturating_sub(rounds));
    println!("append, 32 connections, beside a transaction idle for {:?}:", since.elapsed());
    println!("  before it, events/s      {}", Spread::of(before));
    println!("  in its last, events/s    {}", Spread::of(after));
    idle.close().await.unwrap();
}

/// The log by pages: bytes passed through, against `jsonb` parsed and written again.
async fn read(settings: &Settings, database: &Database, store: &Arc<PostgresStore>) {
    const EVENTS: usize = 100_000;
    const PAGE: usize = 1000;
    let streams = streams();
    let head = store.head().await.unwrap().position.get() as usize;
    for n in 0..EVENTS.saturating_sub(head).div_ceil(1000) {
        let append = Append {
            stream: streams[n % streams.len()].clone(),
            expected: ExpectedRevision::Any,
            events: vec![event(); 1000],
        };
        store.append(append).unwrap().await.unwrap();
    }
    let mut connection = database.connection().await;
    connection
        .execute(
            "CREATE TABLE parsed AS
             SELECT position, revision, recorded_at, id, stream, type, data::jsonb AS data
               FROM tidewire.events WHERE position <= 100000;
             ALTER TABLE parsed ADD PRIMARY KEY (position)",
        )
        .await
        .unwrap();
    for table in ["VACUUM ANALYZE parsed", "VACUUM ANALYZE tidewire.events"] {
        connection.execute(table).await.unwrap();
    }
    let (mut ours, mut parsed, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..settings.rounds {
        let begun = Instant::now();
        let (mut position, mut bytes) = (GlobalPosition::START, 0);
        while (position.get() as usize) < EVENTS {
            let page = store.read(Read::after(Target::All, position, PAGE)).await.unwrap();
            bytes += page.events.iter().map(|event| event.payload.len()).sum::<usize>();
            position = page.events.last().unwrap().position;
        }
        assert!(bytes >= EVENTS * 250);
        let a = EVENTS as f64 / begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        let (mut position, mut bytes) = (0_i64, 0);
        while (position as usize) < EVENTS {
            let rows = sqlx::query(
                "SELECT position, revision, recorded_at, id, stream, type, data
                   FROM parsed WHERE position > $1 ORDER BY position LIMIT $2",
            )
            .bind(position)
            .bind(PAGE as i64)
            .fetch_all(&mut connection)
            .await
            .unwrap();
            for row in &rows {
                let raw = row.try_get_raw("data").unwrap();
                assert!(!raw.is_null());
                // Binary jsonb is a version and the text.
                let value: serde_json::Value =
                    serde_json::from_slice(&raw.as_bytes().unwrap()[1..]).unwrap();
                bytes += value.to_string().len();
                let _: (i64, i64) = (row.get("position"), row.get("revision"));
                let _: (String, String, Uuid) = (row.get("stream"), row.get("type"), row.get("id"));
            }
            position = rows.last().unwrap().get("position");
        }
        assert!(bytes >= EVENTS * 200);
        let b = EVENTS as f64 / begun.elapsed().as_secs_f64();
        ours.push(a);
        parsed.push(b);
        ratios.push(a / b);
    }
    println!("read, pages of {PAGE}:");
    println!("  ours, events/s                     {}", Spread::of(ours));
    println!("  jsonb, parsed, written, events/s   {}", Spread::of(parsed));
    println!("  ratio                              {}", Spread::of(ratios));
}

/// Median and range of some rounds.
struct Spread(Vec<f64>);

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Some(low), Some(high)) = (self.0.first(), self.0.last()) else {
            return f.write_str("no rounds");
        };
        let median = self.0[self.0.len() / 2];
        write!(f, "{median:.2} ({low:.2}–{high:.2})")
    }
}
