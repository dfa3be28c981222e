//! A process that is killed while it projects, rebuilds and swaps leaves documents that are a fold of
//! the log through their checkpoint; the next process goes on from there, with the rebuild too.

#![cfg(feature = "sqlite")]

mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tidewire_eventstore::{EventStore, SqliteOptions, SqliteStore};
use tidewire_projections::{
    Config, DocumentStore, Policy, Projections, SqliteDocuments, SqliteDocumentsOptions, Watched,
    documents::{GenerationStatus, Status, Wish},
};
use tokio::runtime::Handle;

use support::{SOON, Sums, append_all, folded, stored, until};

/// Tells the child which file it is to write.
const FILE: &str = "TIDEWIRE_TEST_KILLED_FILE";

struct Node {
    log: Arc<SqliteStore>,
    documents: Arc<dyn DocumentStore>,
    projections: Projections,
    watched: Watched,
}

impl Node {
    async fn start(path: &Path) -> Self {
        let log = SqliteStore::open(path, SqliteOptions::serve()).await.expect("the log opens");
        let log = Arc::new(log);
        let documents = SqliteDocuments::open(path, SqliteDocumentsOptions::default()).await;
        let documents: Arc<dyn DocumentStore> = Arc::new(documents.expect("the documents open"));
        let mut config = Config::default();
        config.lease = Duration::from_millis(1000);
        config.renew = Duration::from_millis(200);
        config.poll = Duration::from_millis(100);
        config.batch_events = 50;
        let projections = Projections::builder(log.clone(), documents.clone(), "node")
            .projection(Sums::of("sums"), Policy::default())
            .config(config)
            .start(&Handle::current())
            .await
            .expect("starts");
        let watched = projections.get("sums").expect("is there");
        Self { log, documents, projections, watched }
    }

    async fn status(&self) -> Status {
        let name = &self.watched.definition().name;
        self.documents.status(name).await.expect("answers").expect("is there")
    }

    async fn close(self) {
        self.projections.close().await;
        self.documents.close().await;
        self.log.close().await;
    }
}

/// What the killed process does: appends for ever, has a rebuild run all the time, and tells
/// whenever what it appended is in the documents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of another test"]
async fn projects_until_it_is_killed() {
    let path = std::env::var_os(FILE).expect("the file is named by the parent");
    let node = Node::start(Path::new(&path)).await;
    for round in 0.. {
        let mut last = None;
        for account in 0..10 {
            let amounts = [round % 5, 1, 2, 3, 4, 5, 6, 7];
            let account = (account * 7 + round) as u64 % 40;
            last = Some(append_all(node.log.as_ref(), account, "Added", &amounts).await);
        }
        let last = last.expect("something was appended");
        let reached = node.watched.wait(last, SOON).await.expect("gets there");
        if node.status().await.building.is_none() {
            node.watched.wish(Wish::Rebuild).await.expect("is taken");
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "told {} {}", reached.generation, reached.position)
            .expect("the parent listens");
        out.flush().expect("the parent listens");
    }
}

/// Lets a child project, and kills it after it has told so often. The last position that it told.
fn killed(path: &Path, after: usize) -> u64 {
    let program = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(program)
        .args(["projects_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut told = 0;
    let mut hear = |line: String| {
        let position = line.split("told ").nth(1).and_then(|rest| rest.split(' ').nth(1));
        let position = position.and_then(|position| position.parse().ok());
        position.inspect(|position| told = *position).is_some()
    };
    let mut count = 0;
    while count < after {
        let line = lines.next().expect("the child goes on").expect("the child is heard");
        count += usize::from(hear(line));
    }
    child.kill().expect("the child is killed");
    for line in lines.map_while(Result::ok) {
        hear(line);
    }
    child.wait().expect("the child is gone");
    told
}

async fn assert_folded(node: (&dyn EventStore, &dyn DocumentStore), of: &GenerationStatus) {
    let (position, documents) = stored(node.1, of.generation).await;
    assert_eq!(documents, folded(node.0, of.version, position).await, "{of:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_leaves_what_the_next_one_can_go_on_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log.db");
    SqliteStore::open(&path, SqliteOptions::serve()).await.expect("a log opens").close().await;
    let mut rebuilds_met = 0;
    for after in [1, 12, 30, 5, 47, 23] {
        let told = killed(&path, after);
        let log = SqliteStore::open(&path, SqliteOptions::tool()).await.expect("the log opens");
        let documents = SqliteDocuments::open(&path, SqliteDocumentsOptions::default()).await;
        let documents = documents.expect("the documents open");
        let status = documents.statuses().await.expect("answers").remove(0);
        assert!(status.active.checkpoint.get() >= told, "{told} was told: {status:?}");
        assert_folded((&log, &documents), &status.active).await;
        if let Some(building) = &status.building {
            assert_folded((&log, &documents), building).await;
            rebuilds_met += 1;
        }
        documents.close().await;
        log.close().await;
    }
    println!("killed during {rebuilds_met} rebuilds");

    let node = Node::start(&path).await;
    let before = node.status().await;
    let head = node.log.head().await.expect("answers").position;
    node.watched.wait(head, SOON).await.expect("gets there");
    until("nothing is being built", || async { node.status().await.building.is_none() }).await;
    let after = node.status().await;
    if let Some(building) = before.building {
        assert_eq!(after.active.generation, building.generation, "the same rebuild went on");
    }
    assert_folded((node.log.as_ref(), node.documents.as_ref()), &after.active).await;
    node.close().await;
}
