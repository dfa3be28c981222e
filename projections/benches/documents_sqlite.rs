//! Commits of documents to SQLite beside a plain batch upsert of the same rows: what fences,
//! positions, tombstones and index entries cost. Interleaved rounds, medians, ranges and ratios of
//! the time that it took, and of the processor's time, which a busy machine disturbs less.
//!
//! `cargo bench -p tidewire-projections --features sqlite --bench documents_sqlite [ROUNDS] [WRITES]`
//!
//! Each round writes documents of about 250 bytes, a random choice of ten times as many keys.

use std::{path::Path, sync::Arc, time::Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use tidewire_eventstore::{
    DocumentKey, EventStore as _, Generation, GlobalPosition, ProjectionName, SqliteOptions,
    SqliteStore,
};
use tidewire_projections::{
    DocumentStore, SqliteDocuments, SqliteDocumentsOptions,
    documents::{Commit, Held, Owner, Write},
};
use tidewire_protocol::query::SortKey;
use uuid::Uuid;

/// Dice with Knuth's MMIX constants.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// What the threads of this process have used of the processor, in seconds; 0 where the system
/// does not tell.
fn processor_time() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| -> Option<f64> {
        let stat = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    };
    threads.filter_map(of_thread).sum::<f64>() / 1e9
}

/// How long something took, and how much of the processor.
#[derive(Clone, Copy)]
struct Watch(Instant, f64);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), processor_time())
    }

    fn read(self) -> (f64, f64) {
        (self.0.elapsed().as_secs_f64(), processor_time() - self.1)
    }
}

/// One document to write: its key, its number, its text.
type Row = (String, u64, String);

/// Different keys of ten times as many.
fn rows(dice: &mut Dice, writes: u64) -> Vec<Row> {
    let mut chosen: Vec<u64> = (0..writes).map(|number| number * 10 + dice.roll(10)).collect();
    for at in (1..chosen.len()).rev() {
        chosen.swap(at, dice.roll(at as u64 + 1) as usize);
    }
    let row = |key: u64| {
        let number = dice.roll(1_000_000);
        let text = json!({"number": number, "note": "x".repeat(220)}).to_string();
        (format!("flight-{key:07}"), number, text)
    };
    chosen.into_iter().map(row).collect()
}

/// A table that holds the same rows and promises nothing.
struct Plain {
    connection: SqliteConnection,
    upserts: [(usize, Arc<str>); 3],
}

impl Plain {
    async fn open(path: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("secure_delete", "ON");
        let mut connection = SqliteConnection::connect_with(&options).await.expect("connects");
        sqlx::raw_sql("CREATE TABLE plain (key TEXT PRIMARY KEY, data TEXT) WITHOUT ROWID")
            .execute(&mut connection)
            .await
            .expect("a table");
        let upserts = [512, 64, 1].map(|rows| {
            let values = vec!["(?, ?)"; rows].join(", ");
            let sql = format!(
                "INSERT INTO plain (key, data) VALUES {values} \
                 ON CONFLICT (key) DO UPDATE SET data = excluded.data"
            );
            (rows, sql.into())
        });
        Self { connection, upserts }
    }

    /// Rows as binds.
    async fn upsert(&mut self, mut rows: &[Row]) {
        let begun = self.connection.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.expect("nobody else writes");
        for (size, sql) in &self.upserts {
            while let Some((chunk, rest)) = rows.split_at_checked(*size) {
                let query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
                let query = chunk.iter().fold(query, |query, (key, _, text)| {
                    query.bind(key.as_str()).bind(text.as_str())
                });
                query.execute(&mut *transaction).await.expect("upserted");
                rows = rest;
            }
        }
        transaction.commit().await.expect("committed");
    }

    /// Rows as one JSON text.
    async fn upsert_json(&mut self, rows: &[Row]) {
        let begun = self.connection.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.expect("nobody else writes");
        let rows: Vec<(&str, &str)> =
            rows.iter().map(|(key, _, text)| (key.as_str(), text.as_str())).collect();
        sqlx::query(
            "INSERT INTO plain (key, data) SELECT value ->> 0, value ->> 1 FROM json_each(?) \
             WHERE true ON CONFLICT (key) DO UPDATE SET data = excluded.data",
        )
        .bind(serde_json::to_string(&rows).expect("JSON"))
        .execute(&mut *transaction)
        .await
        .expect("upserted");
        transaction.commit().await.expect("committed");
    }
}

/// A projection with some indexes.
struct Projection {
    store: SqliteDocuments,
    held: Held,
    generation: Generation,
    at: u64,
    indexes: usize,
    numbers: std::collections::HashMap<String, u64>,
}

impl Projection {
    async fn open(path: &Path, indexes: usize) -> Self {
        let opened = SqliteDocuments::open(path, SqliteDocumentsOptions::default()).await;
        let store = opened.expect("the log has room for documents");
        let name = ProjectionName::new("bench").expect("a good name");
        let registered = store.register(&name, 1).await.expect("registered");
        let owner = Owner { id: Uuid::new_v4(), node: "bench".into() };
        let lease = std::time::Duration::from_secs(3600);
        let fence = store.claim(&name, owner, lease).await.expect("claimed").expect("free");
        let held = Held { name, fence };
        let generation = registered.active.generation;
        Self { store, held, generation, at: 0, indexes, numbers: Default::default() }
    }

    /// What a runner hands over: made before the clock runs.
    fn prepare(&mut self, rows: &[Row]) -> Commit {
        let entries = |number: u64| -> Vec<SortKey> {
            let number: Value = json!(number);
            vec![SortKey::of([Some(&number)]); self.indexes]
        };
        let mut writes = Vec::with_capacity(rows.len());
        for ((key, number, text), position) in rows.iter().zip(self.at + 1..) {
            let before = self.numbers.insert(key.clone(), *number);
            writes.push(Write {
                key: DocumentKey::new(key).expect("a good key"),
                position: GlobalPosition::new(position),
                data: Some(Bytes::copy_from_slice(text.as_bytes())),
                indexed_before: before.map(entries).unwrap_or_default(),
                indexed_after: entries(*number),
            });
        }
        let expected = GlobalPosition::new(self.at);
        self.at += rows.len() as u64;
        Commit {
            held: self.held.clone(),
            generation: self.generation,
            expected,
            position: GlobalPosition::new(self.at),
            writes,
            parked: Vec::new(),
            sql: None,
        }
    }
}

fn median(times: impl Iterator<Item = f64>) -> f64 {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Prints a case, beside the plain upsert's medians; returns its own.
fn report(name: &str, times: &[(f64, f64)], writes: u64, plain: Option<(f64, f64)>) -> (f64, f64) {
    let took = median(times.iter().map(|time| time.0));
    let used = median(times.iter().map(|time| time.1));
    let least = times.iter().map(|time| time.0).fold(f64::MAX, f64::min);
    let plain = plain.unwrap_or((took, used));
    println!(
        "{name:<22} {:>7.1} ms (from {:.1}), {:>7.0} documents/s, ×{:.2}; processor {:>6.1} ms, \
         {:>7.0} documents/s, ×{:.2}",
        took * 1e3,
        least * 1e3,
        writes as f64 / took,
        took / plain.0,
        used * 1e3,
        writes as f64 / used,
        used / plain.1,
    );
    (took, used)
}

#[tokio::main]
async fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let rounds = numbers.first().copied().unwrap_or(15);
    let writes = numbers.get(1).copied().unwrap_or(5000);
    let folder = tempfile::tempdir().expect("a folder");
    let file = async |name: &str| {
        let path = folder.path().join(name);
        let log = SqliteStore::open(&path, SqliteOptions::tool()).await.expect("a log");
        log.close().await;
        path
    };
    let mut plain = Plain::open(&file("plain").await).await;
    let mut plain_json = Plain::open(&file("json").await).await;
    let mut projections = Vec::new();
    for indexes in [0, 1, 2] {
        projections.push(Projection::open(&file(&format!("{indexes}")).await, indexes).await);
    }
    let mut times = vec![Vec::new(); 5];
    let mut dice = Dice(1);
    // The first rounds insert; the rest mostly update.
    for round in 0..rounds + 5 {
        let rows = rows(&mut dice, writes);
        let mut took = Vec::new();
        let watch = Watch::start();
        plain.upsert(&rows).await;
        took.push(watch.read());
        let watch = Watch::start();
        plain_json.upsert_json(&rows).await;
        took.push(watch.read());
        for projection in &mut projections {
            let commit = projection.prepare(&rows);
            let watch = Watch::start();
            projection.store.commit(commit).await.expect("committed");
            took.push(watch.read());
        }
        if round >= 5 {
            for (times, took) in times.iter_mut().zip(took) {
                times.push(took);
            }
        }
    }
    println!("{writes} documents a commit, {rounds} rounds");
    let plain = Some(report("plain upsert", &times[0], writes, None));
    report("plain, rows as JSON", &times[1], writes, plain);
    for (indexes, times) in times[2..].iter().enumerate() {
        report(&format!("commit, {indexes} indexes"), times, writes, plain);
    }
}
