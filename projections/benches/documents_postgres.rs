//! Measures commits of documents in PostgreSQL against a plain upsert of the same rows: the same
//! columns, a primary key and nothing else, one statement a batch, which does not wait for the disk
//! either.
//!
//! Runs on demand, on the server of `TIDEWIRE_TEST_POSTGRES`, in a database of its own:
//!
//! ```text
//! cargo bench -p tidewire-projections --features postgres --bench documents_postgres -- \
//!     [rounds=7] [commits=20] [writes=5000]
//! ```
//!
//! Both sides take turns within each round, first with new documents and then with each of them
//! changed again; what counts is the median of the rounds' ratios.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

#[path = "../../eventstore/tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection};
use support::Database;
use tidewire_eventstore::{DocumentKey, Generation, GlobalPosition, ProjectionName};
use tidewire_projections::{
    DocumentStore, PostgresDocuments, PostgresDocumentsOptions,
    documents::{Commit, Held, Owner, Write},
};
use tidewire_protocol::query::SortKey;
use uuid::Uuid;

const PLAIN_TABLE: &str = r#"
    CREATE TABLE plain (key text COLLATE "C" PRIMARY KEY, position bigint NOT NULL, data json)"#;

const PLAIN_UPSERT: &str = "
    INSERT INTO plain (key, position, data)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[]::json[])
        ON CONFLICT (key) DO UPDATE SET position = excluded.position, data = excluded.data";

#[derive(Debug, Clone, Copy)]
struct Settings {
    rounds: usize,
    commits: u64,
    writes: u64,
}

impl Settings {
    fn from_arguments() -> Self {
        let mut settings = Self { rounds: 7, commits: 20, writes: 5000 };
        for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with('-')) {
            let (name, value) = argument.split_once('=').expect("name=number");
            let number: u64 = value.parse().expect("a number");
            match name {
                "rounds" => settings.rounds = usize::try_from(number).unwrap(),
                "commits" => settings.commits = number,
                "writes" => settings.writes = number,
                other => panic!("{other} is no setting"),
            }
        }
        settings
    }
}

#[tokio::main]
async fn main() {
    let settings = Settings::from_arguments();
    let database = Database::create().await;
    let options = PostgresDocumentsOptions::new(&database.url);
    let documents = PostgresDocuments::connect(options).await.unwrap();
    let mut plain = database.connection().await;
    plain.execute("SET synchronous_commit = off").await.unwrap();
    for indexes in [0, 1] {
        for change in ["new", "changed"] {
            let (mut ours, mut plains, mut ratios) = (vec![], vec![], vec![]);
            for round in 0..settings.rounds {
                let a = commits(&documents, settings, indexes, change == "changed").await;
                plain.execute("DROP TABLE IF EXISTS plain").await.unwrap();
                plain.execute(PLAIN_TABLE).await.unwrap();
                let b = upserts(&mut plain, settings, change == "changed").await;
                ours.push(rate(settings, a));
                plains.push(rate(settings, b));
                ratios.push(b.as_secs_f64() / a.as_secs_f64());
                eprintln!("round {round}: {:.2}", ratios[round]);
            }
            println!("{change} documents, {indexes} indexes:");
            println!("  ours, documents/s   {:.0}", median(ours));
            println!("  plain, documents/s  {:.0}", median(plains));
            println!("  ratio               {:.2}", median(ratios));
        }
    }
    plain.close().await.unwrap();
    documents.close().await;
}

fn rate(settings: Settings, spent: Duration) -> f64 {
    (settings.commits * settings.writes) as f64 / spent.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A document much as the demo has them: 260 bytes.
fn content(number: u64, turn: u64) -> Bytes {
    let flight = json!({
        "carrier": "US", "carrier_name": "US Airways Inc.", "flight": number, "tail": "N557UW",
        "origin": "EWR", "dest": "CLT", "dest_name": "Charlotte Douglas Intl", "turn": turn,
        "scheduled_departure": "2013-02-04T05:00", "scheduled_arrival": "2013-02-04T06:48",
        "distance": 529, "gate": "A",
    });
    flight.to_string().into()
}

/// The keys of a commit, scattered over all of them.
fn keys(settings: Settings, commit: u64) -> impl Iterator<Item = (u64, String)> {
    (0..settings.writes).map(move |n| {
        let number = n * settings.commits + commit;
        (number, format!("flight-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    })
}

fn entry(number: u64, turn: u64) -> SortKey {
    SortKey::of([Some(&json!((number * 7919 + turn) % 100_000))])
}

/// The time that one turn over all documents takes, in a generation of its own.
async fn commits(
    documents: &PostgresDocuments,
    settings: Settings,
    indexes: usize,
    changed: bool,
) -> Duration {
    let name = ProjectionName::new(&format!("bench-{}", Uuid::new_v4().simple())).unwrap();
    let generation = documents.register(&name, 1).await.unwrap().active.generation;
    let owner = Owner { id: Uuid::new_v4(), node: "bench".into() };
    let claim = documents.claim(&name, owner, Duration::from_secs(600)).await;
    let held = Held { name: name.clone(), fence: claim.unwrap().unwrap() };
    let mut spent = turn(documents, settings, &held, generation, indexes, 0).await;
    if changed {
        spent = turn(documents, settings, &held, generation, indexes, 1).await;
    }
    documents.release(&held).await.unwrap();
    assert!(documents.forget(&name).await.unwrap());
    spent
}

async fn turn(
    documents: &PostgresDocuments,
    settings: Settings,
    held: &Held,
    generation: Generation,
    indexes: usize,
    turn: u64,
) -> Duration {
    let mut spent = Duration::ZERO;
    for commit in 0..settings.commits {
        let expected = GlobalPosition::new((turn * settings.commits + commit) * settings.writes);
        let position = GlobalPosition::new(expected.get() + settings.writes);
        let writes = keys(settings, commit).map(|(number, key)| Write {
            key: DocumentKey::new(&key).unwrap(),
            position: GlobalPosition::new(expected.get() + 1 + number / settings.commits),
            data: Some(content(number, turn)),
            indexed_before: match turn {
                0 => vec![],
                _ => vec![entry(number, turn - 1); indexes],
            },
            indexed_after: vec![entry(number, turn); indexes],
        });
        let commit = Commit {
            held: held.clone(),
            generation,
            expected,
            position,
            writes: writes.collect(),
            parked: vec![],
            sql: None,
        };
        let since = Instant::now();
        documents.commit(commit).await.unwrap();
        spent += since.elapsed();
    }
    spent
}

/// The same by plain statements.
async fn upserts(plain: &mut PgConnection, settings: Settings, changed: bool) -> Duration {
    let mut spent = Duration::ZERO;
    for turn in 0..=u64::from(changed) {
        spent = Duration::ZERO;
        for commit in 0..settings.commits {
            let (mut names, mut positions, mut contents) = (vec![], vec![], vec![]);
            for (number, key) in keys(settings, commit) {
                names.push(key);
                positions.push((turn * settings.commits + commit + 1) as i64);
                contents.push(String::from_utf8(content(number, turn).to_vec()).unwrap());
            }
            let since = Instant::now();
            sqlx::query(PLAIN_UPSERT)
                .bind(names)
                .bind(positions)
                .bind(contents)
                .execute(&mut *plain)
                .await
                .unwrap();
            spent += since.elapsed();
        }
    }
    spent
}
