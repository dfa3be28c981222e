//! Appends to SQLite: one event after the other, many callers at once, and events in bulk; and a
//! plain INSERT an event as the thing to beat. Interleaved rounds, medians and ranges.
//!
//! `cargo bench -p tidewire-eventstore --features sqlite --bench append_sqlite [ROUNDS]`

use std::{path::Path, sync::Arc, time::Instant};

use sqlx::{
    Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tidewire_eventstore::{
    Append, EventStore, EventType, ExpectedRevision, GlobalPosition, NewEvent, Read, SqliteOptions,
    SqliteStore, StreamName, Target,
};

/// 250 bytes of JSON.
fn payload() -> String {
    format!("{{\"flight\": \"UA 1545\", \"note\": \"{}\"}}", "x".repeat(212))
}

fn append(stream: u64, events: usize, data: &str) -> Append {
    let event_type = EventType::new("FlightDeparted").expect("a good name");
    Append {
        stream: StreamName::new(&format!("flight-{stream}")).expect("a good name"),
        expected: ExpectedRevision::Any,
        events: vec![NewEvent::json(event_type, data.to_owned()); events],
    }
}

/// Appends `count` times through `callers` tasks; events a second.
async fn callers(store: &Arc<SqliteStore>, callers: u64, count: u64, events: usize) -> f64 {
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let data = payload();
                for number in 0..count / callers {
                    let pending = store.append(append(caller * 1000 + number % 100, events, &data));
                    pending.expect("room in the queue").await.expect("recorded");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no caller panics");
    }
    (count * events as u64) as f64 / began.elapsed().as_secs_f64()
}

/// Submits `count` single events without waiting in between; events a second.
async fn pipelined(store: &SqliteStore, count: u64) -> f64 {
    let data = payload();
    let began = Instant::now();
    let mut pending = std::collections::VecDeque::new();
    for number in 0..count {
        if pending.len() == 4096 {
            let oldest: tidewire_eventstore::PendingAppend =
                pending.pop_front().expect("not empty");
            oldest.await.expect("recorded");
        }
        let appended = store.append(append(number % 1000, 1, &data)).expect("room in the queue");
        pending.push_back(appended);
    }
    for pending in pending {
        pending.await.expect("recorded");
    }
    count as f64 / began.elapsed().as_secs_f64()
}

/// Reads the whole log in pages of 1000; events a second.
async fn reading(store: &SqliteStore) -> f64 {
    let began = Instant::now();
    let mut after = GlobalPosition::START;
    let mut count = 0;
    loop {
        let page = store.read(Read::after(Target::All, after, 1000)).await.expect("a page");
        count += page.events.len();
        after = page.events.last().map_or(after, |event| event.position);
        if !page.more {
            return count as f64 / began.elapsed().as_secs_f64();
        }
    }
}

/// One transaction with one INSERT an event, same durability, fewer indexes.
async fn plain(path: &Path, count: i64) -> f64 {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("connects");
    let columns = "position INTEGER PRIMARY KEY, revision INTEGER, recorded_at INTEGER, \
                   id BLOB, stream TEXT, type TEXT, data TEXT, UNIQUE (stream, revision)";
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE TABLE IF NOT EXISTS plain ({columns})")))
        .execute(&mut connection)
        .await
        .expect("a table");
    let head: i64 = sqlx::query_scalar("SELECT coalesce(max(position), 0) FROM plain")
        .fetch_one(&mut connection)
        .await
        .expect("a head");
    let data = payload();
    let began = Instant::now();
    for number in 0..count {
        sqlx::query("INSERT INTO plain VALUES (?, ?, 0, randomblob(16), 'flight-1', 'T', ?)")
            .bind(head + number + 1)
            .bind(head + number)
            .bind(&*data)
            .execute(&mut connection)
            .await
            .expect("inserted");
    }
    count as f64 / began.elapsed().as_secs_f64()
}

fn main() {
    let rounds =
        std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5_usize);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.db");
        let store = SqliteStore::open(&path, SqliteOptions::serve()).await.expect("opens");
        let store = Arc::new(store);
        let names = [
            "plain insert, a transaction each",
            "one caller, single events",
            "32 callers, single events",
            "pipelined single events",
            "4 callers, 1000 events each",
            "read the log by pages of 1000",
        ];
        let mut rates = vec![Vec::new(); names.len()];
        for _ in 0..rounds {
            rates[0].push(plain(&folder.path().join("plain.db"), 1000).await);
            rates[1].push(callers(&store, 1, 500, 1).await);
            rates[2].push(callers(&store, 32, 16_000, 1).await);
            rates[3].push(pipelined(&store, 50_000).await);
            rates[4].push(callers(&store, 4, 100, 1000).await);
            rates[5].push(reading(&store).await);
        }
        for (name, mut rates) in names.into_iter().zip(rates) {
            rates.sort_by(f64::total_cmp);
            let (low, high) = (rates[0], rates[rates.len() - 1]);
            println!("{name:35} {:>9.0}/s  ({low:.0} to {high:.0})", rates[rates.len() / 2]);
        }
        store.close().await;
    });
}
