//! How fast a projection takes a log: events a second into documents, beside a plain batch upsert of
//! the same rows into a table of its own, interleaved. Medians, ranges and the ratio.
//!
//! `cargo bench -p tidewire-projections --features sqlite,postgres --bench runner [EVENTS] [ROUNDS]`
//!
//! The events carry about 250 bytes and name one of 10,000 keys; the projection keeps the latest of
//! each key (`latest_by`). SQLite's file is in `/dev/shm`, or in `TIDEWIRE_BENCH_DIR`. PostgreSQL is
//! measured where `TIDEWIRE_TEST_POSTGRES` names one; its database is filled with events.
//!
//! `TIDEWIRE_BENCH_LOG` names a SQLite log to project instead, each stream's latest event; and then
//! to rebuild, with its progress.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tidewire_eventstore::{
    Append, EventStore, EventType, ExpectedRevision, GlobalPosition, NewEvent, Payload, Read,
    SqliteOptions, SqliteStore, StreamName, Target,
};
use tidewire_projections::{
    DocumentStore, Policy, Projections, SqliteDocuments, SqliteDocumentsOptions, Watched,
    declared::DeclaredConfig, documents::Wish,
};
use tokio::runtime::Handle;

#[cfg(feature = "postgres")]
#[path = "runner/postgres.rs"]
mod postgres;
#[path = "runner/sqlite.rs"]
mod sqlite;

/// Keys that the events name.
const KEYS: u64 = 10_000;

/// Events of one commit of the plain upsert, as the runner has it.
const BATCH: usize = 4000;

/// One row to upsert: its key and its text.
type Row = (String, String);

/// A table that holds the same rows and promises nothing.
trait Plain {
    /// Empties it.
    async fn empty(&mut self);
    /// One transaction.
    async fn upsert(&mut self, rows: &[Row]);
}

/// Dice with Knuth's MMIX constants.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Appends events until there are as many.
async fn fill(log: &dyn EventStore, events: u64) {
    let mut dice = Dice(7);
    let mut head = log.head().await.expect("the log answers").position.get();
    while head < events {
        let mut pending = Vec::new();
        for stream in 0..100 {
            let event = |_| {
                let data = json!({
                    "key": format!("flight-{:05}", dice.roll(KEYS)),
                    "delay": dice.roll(200),
                    "gate": format!("B{}", dice.roll(60)),
                    "status": "Boarding",
                    "note": "n".repeat(160),
                });
                NewEvent::json(EventType::new("Moved").expect("a type"), data.to_string())
            };
            let append = Append {
                stream: StreamName::new(&format!("flight-{stream}")).expect("a name"),
                expected: ExpectedRevision::Any,
                events: (0..20).map(event).collect(),
            };
            pending.push(log.append(append).expect("there is room"));
        }
        for append in pending {
            head = append.await.expect("it is recorded").position.get();
        }
    }
}

/// The rows that the runner's commits write: the latest of each key in each batch.
async fn batches(log: &dyn EventStore) -> Vec<Vec<Row>> {
    let mut batches = Vec::new();
    let mut from = GlobalPosition::START;
    loop {
        let page = log.read(Read::after(Target::All, from, BATCH)).await.expect("it answers");
        let mut rows = BTreeMap::new();
        for event in &page.events {
            let Payload::Json(data) = &event.payload else { continue };
            let data: Value = serde_json::from_slice(data).expect("JSON");
            rows.insert(data["key"].as_str().expect("a key").to_owned(), data.to_string());
            from = event.position;
        }
        batches.push(rows.into_iter().collect());
        if !page.more {
            return batches;
        }
    }
}

/// Has a new projection take the whole log; how long that took.
async fn project(
    log: &Arc<dyn EventStore>,
    documents: &Arc<dyn DocumentStore>,
    name: &str,
    mut settings: Value,
    rebuilt: Rebuilt,
) -> Duration {
    settings["name"] = name.into();
    let config: DeclaredConfig = serde_json::from_value(settings).expect("settings");
    let head = log.head().await.expect("the log answers").position;
    let began_at = Instant::now();
    let projections = Projections::builder(log.clone(), documents.clone(), "bench")
        .projection(config.build().expect("they make sense"), Policy::default())
        .start(&Handle::current())
        .await
        .expect("it starts");
    let watched = projections.get(name).expect("it is there");
    let reached = watched.wait(head, Duration::from_secs(3600)).await;
    let took = began_at.elapsed();
    reached.unwrap_or_else(|error| panic!("{error}: {:?}", projections.stats()));
    let stats = projections.stats().remove(0);
    println!(
        "  {name}: {} events, {} writes, {} commits in {took:.2?}",
        stats.events_total, stats.writes_total, stats.commits_total
    );
    if rebuilt == Rebuilt::AsWell {
        rebuild(&watched).await;
    }
    projections.close().await;
    documents.forget(&watched.definition().name).await.expect("it is forgotten");
    took
}

/// Has the projection rebuilt, and tells how that goes.
async fn rebuild(watched: &Watched) {
    let before = watched.reached().generation;
    let began_at = Instant::now();
    watched.wish(Wish::Rebuild).await.expect("it is taken");
    while watched.reached().generation == before {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let status = watched.status().await.expect("it answers");
        if let Some(progress) = status.progress {
            println!(
                "  at {} of {}, {:.0} events/s, {:.0?} left",
                progress.position, progress.head, progress.events_per_second, progress.left
            );
        }
    }
    println!("  rebuilt and swapped in {:.1?}", began_at.elapsed());
}

/// Whether a projection is to be rebuilt when it is there.
#[derive(PartialEq, Eq)]
enum Rebuilt {
    AsWell,
    No,
}

async fn compare(
    what: &str,
    log: Arc<dyn EventStore>,
    documents: Arc<dyn DocumentStore>,
    plain: &mut impl Plain,
    rounds: usize,
) {
    let batches = batches(log.as_ref()).await;
    let rows: usize = batches.iter().map(Vec::len).sum();
    let events = log.head().await.expect("the log answers").position.get();
    println!("{what}: {events} events, {rows} rows in {} batches", batches.len());
    let (mut ours, mut plains) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        plain.empty().await;
        let began_at = Instant::now();
        for batch in &batches {
            plain.upsert(batch).await;
        }
        plains.push(events as f64 / began_at.elapsed().as_secs_f64());
        let settings = json!({
            "kind": "latest_by", "category": "flight", "key": "data.key", "mode": "replace",
        });
        let took =
            project(&log, &documents, &format!("latest-{round}"), settings, Rebuilt::No).await;
        ours.push(events as f64 / took.as_secs_f64());
    }
    tell(&format!("{what} projection"), &mut ours);
    tell(&format!("{what} plain upsert"), &mut plains);
    println!(
        "{what}: the projection is at {:.2} of the plain upsert",
        ours[rounds / 2] / plains[rounds / 2]
    );
    println!("{what}: at most {} MB of memory", memory_max() / 1024);
}

fn tell(what: &str, rates: &mut [f64]) {
    rates.sort_by(f64::total_cmp);
    let (least, median, most) = (rates[0], rates[rates.len() / 2], rates[rates.len() - 1]);
    println!("{what}: {median:.0} events/s ({least:.0} to {most:.0})");
}

/// The most memory that this process has had, in kB.
fn memory_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn folder() -> PathBuf {
    std::env::var_os("TIDEWIRE_BENCH_DIR").map_or_else(|| "/dev/shm".into(), PathBuf::from)
}

async fn open(path: &Path) -> (Arc<dyn EventStore>, Arc<dyn DocumentStore>) {
    let log = SqliteStore::open(path, SqliteOptions::serve()).await.expect("the log opens");
    let documents = SqliteDocuments::open(path, SqliteDocumentsOptions::default()).await;
    (Arc::new(log), Arc::new(documents.expect("the documents open")))
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let events = numbers.next().unwrap_or(200_000);
    let rounds = numbers.next().unwrap_or(5) as usize;
    if let Some(path) = std::env::var_os("TIDEWIRE_BENCH_LOG") {
        let (log, documents) = open(Path::new(&path)).await;
        let settings = json!({"kind": "latest_by", "all": true, "key": "stream"});
        let took = project(&log, &documents, "latest", settings, Rebuilt::AsWell).await;
        let head = log.head().await.expect("the log answers").position.get();
        println!(
            "{:.0} events/s, at most {} MB",
            head as f64 / took.as_secs_f64(),
            memory_max() / 1024
        );
        return;
    }
    let folder = tempfile::tempdir_in(folder()).expect("a folder");
    let path = folder.path().join("log.db");
    let (log, documents) = open(&path).await;
    fill(log.as_ref(), events).await;
    let mut plain = sqlite::Table::open(&folder.path().join("plain.db")).await;
    compare("SQLite", log, documents, &mut plain, rounds).await;
    #[cfg(feature = "postgres")]
    if let Ok(url) = std::env::var("TIDEWIRE_TEST_POSTGRES") {
        let (log, documents) = postgres::open(&url).await;
        fill(log.as_ref(), events).await;
        let mut plain = postgres::Table::open(&url).await;
        compare("PostgreSQL", log, documents, &mut plain, rounds).await;
    }
}
