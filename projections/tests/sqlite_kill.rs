//! A process that is killed in the midst of its commits loses nothing that was told: documents,
//! entries and checkpoint are one. Whoever comes next takes over when the lease has run out.

#![cfg(feature = "sqlite")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tidewire_eventstore::{
    DocumentKey, EventStore as _, GlobalPosition, ProjectionName, SqliteOptions, SqliteStore,
};
use tidewire_projections::{
    DocumentStore, SqliteDocuments, SqliteDocumentsOptions,
    documents::{Commit, Held, Owner, PageRead, Scan, Status, Write},
};
use tidewire_protocol::query::{OrderDirection, SortKey};
use uuid::Uuid;

/// Tells the child of a test which file it is to write.
const FILE: &str = "TIDEWIRE_TEST_KILLED_FILE";

/// How many documents a commit adds, besides the one that counts them.
const ADDED: u64 = 50;

/// How long the lease of a process is that will be killed.
const LEASE: Duration = Duration::from_millis(500);

fn name() -> ProjectionName {
    ProjectionName::new("counts").expect("a good name")
}

fn put(key: &str, position: u64, before: Option<u64>, number: u64) -> Write {
    let entry = |number: u64| vec![SortKey::of([Some(&json!(number))])];
    Write {
        key: DocumentKey::new(key).expect("a good key"),
        position: GlobalPosition::new(position),
        data: Some(Bytes::from(json!({"number": number}).to_string())),
        indexed_before: before.map(entry).unwrap_or_default(),
        indexed_after: entry(number),
    }
}

async fn open(path: &Path) -> SqliteDocuments {
    let opened = SqliteDocuments::open(path, SqliteDocumentsOptions::default()).await;
    opened.expect("the log has room for documents")
}

/// Claims, as soon as nobody's lease runs.
async fn claim(store: &SqliteDocuments) -> (Held, Status) {
    let status = store.register(&name(), 1).await.expect("registered");
    let owner = Owner { id: Uuid::new_v4(), node: "node".into() };
    let give_up_at = Instant::now() + Duration::from_secs(20);
    loop {
        let claimed = store.claim(&name(), owner.clone(), LEASE).await.expect("it answers");
        if let Some(fence) = claimed {
            return (Held { name: name(), fence }, status);
        }
        assert!(Instant::now() < give_up_at, "a dead owner keeps the projection");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One commit: as many new documents, and how many there are now.
async fn add(store: &SqliteDocuments, held: &Held, from: &Status, at: u64) -> u64 {
    let to = at + ADDED;
    let mut writes: Vec<_> =
        (at + 1..=to).map(|number| put(&format!("key-{number}"), number, None, number)).collect();
    writes.push(put("sum", to, (at > 0).then_some(at), to));
    let commit = Commit {
        held: held.clone(),
        generation: from.active.generation,
        expected: GlobalPosition::new(at),
        position: GlobalPosition::new(to),
        writes,
        parked: Vec::new(),
        sql: None,
    };
    store.commit(commit).await.expect("the owner writes");
    to
}

/// What the killed process does: commits for ever, and tells of each commit that was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of another test"]
async fn commits_until_it_is_killed() {
    let path = std::env::var_os(FILE).expect("the file is named by the parent");
    let store = open(Path::new(&path)).await;
    let (held, from) = claim(&store).await;
    let mut at = from.active.checkpoint.get();
    loop {
        at = add(&store, &held, &from, at).await;
        store.renew(&held, LEASE).await.expect("nobody else came");
        let mut out = std::io::stdout().lock();
        writeln!(out, "told {at}").expect("the parent listens");
        out.flush().expect("the parent listens");
    }
}

/// Lets a child commit, kills it after some commits, and returns the last that it told of.
fn killed(path: &Path, after: usize) -> u64 {
    let program = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(program)
        .args(["commits_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut told = 0;
    let mut count = 0;
    let mut hear = |line: String| {
        let number = line.split("told ").nth(1).and_then(|number| number.parse().ok());
        number.inspect(|number| told = *number).is_some()
    };
    while count < after {
        let line = lines.next().expect("the child goes on").expect("the child is heard");
        count += usize::from(hear(line));
    }
    child.kill().expect("the child is killed");
    // What it told before it was killed and was not heard yet counts too.
    for line in lines.map_while(Result::ok) {
        hear(line);
    }
    child.wait().expect("the child is gone");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_that_was_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    let log = SqliteStore::open(&path, SqliteOptions::serve()).await.expect("a new log opens");
    log.close().await;
    for after in [1, 7, 23] {
        let told = killed(&path, after);
        let store = open(&path).await;
        let (held, status) = claim(&store).await;
        let reached = status.active.checkpoint.get();
        assert!(reached >= told, "{told} was told, and the checkpoint is {reached}");
        assert!(reached.is_multiple_of(ADDED), "a commit is whole");

        let generation = status.active.generation;
        let key = DocumentKey::new("sum").expect("a good key");
        let sum = store.documents(generation, vec![key]).await.expect("it answers").remove(0);
        let value: Value = serde_json::from_slice(&sum.data).expect("a document");
        assert_eq!(value["number"], reached);
        for scan in [
            Scan::Keys(OrderDirection::Ascending),
            Scan::Index {
                index: 0,
                prefix: SortKey::default(),
                direction: OrderDirection::Descending,
            },
        ] {
            let (mut found, mut from) = (0, None);
            loop {
                let read = PageRead { generation, scan: scan.clone(), after: from, limit: 1000 };
                let page = store.page(read).await.expect("it answers");
                found += page.documents.len() as u64;
                from = page.documents.last().map(|(place, _)| place.clone());
                if !page.more {
                    break;
                }
            }
            assert_eq!(found, reached + 1, "{scan:?}");
        }
        add(&store, &held, &status, reached).await;
        store.release(&held).await.expect("released");
        store.close().await;
    }
}
