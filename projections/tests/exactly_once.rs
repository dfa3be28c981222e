//! Exactly once in effect: nodes come and go, connections lose questions and answers, commits arrive
//! long after their owner has been replaced, rebuilds begin and are given up — and at any moment
//! the documents are what a fold of the log through their checkpoint gives. A follower that only
//! hears the news, and asks where they have a hole, has the same documents.
//!
//! Bugs are planted to see that this would be found.

#[path = "support/faulty.rs"]
mod faulty;
mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tidewire_eventstore::{GlobalPosition, MemoryStore};
use tidewire_projections::{
    Before, Config, DocumentStore, FeedNews, MemoryDocuments, OnPoison, Policy, Projections,
    Watched,
    documents::{ChangesRead, PAGE_MAX, Wish},
};
use tokio::{
    runtime::Handle,
    sync::broadcast::error::RecvError,
    task::JoinHandle,
    time::{sleep, timeout},
};

use faulty::{Faulty, Plant};
use support::{SOON, Sums, append, append_all, folded, stored};

const NODES: usize = 3;

struct World {
    log: Arc<MemoryStore>,
    documents: MemoryDocuments,
    failing: Arc<AtomicBool>,
    nodes: Vec<Option<Projections>>,
    version: u32,
    seed: u64,
    plant: Option<Plant>,
    /// What differed, if anything did.
    wrong: Arc<Mutex<Option<String>>>,
    followers: Vec<JoinHandle<()>>,
}

/// A number of this seed.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        // splitmix64 (Steele, Lea, Flood).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

impl World {
    async fn start(&mut self, node: usize) {
        self.seed = self.seed.wrapping_add(1);
        let faulty =
            Faulty::new(self.documents.clone(), self.seed, self.failing.clone(), self.plant);
        let mut config = Config::default();
        config.batch_events = 7;
        config.documents_bytes = 600;
        config.feed_batches = 4;
        let policy = Policy { on_poison: OnPoison::Park, rebuild_on_new_version: true };
        let projections = Projections::builder(self.log.clone(), Arc::new(faulty), "node")
            .projection(Sums::of_version("sums", self.version), policy)
            .config(config)
            .start(&Handle::current())
            .await
            .expect("registers");
        let watched = projections.get("sums").expect("is there");
        let follower = follow(watched, self.log.clone(), self.version, self.wrong.clone());
        self.followers.push(tokio::spawn(follower));
        self.nodes[node] = Some(projections);
    }

    async fn check(&self) {
        let name = Sums::new("sums", 1);
        let name = tidewire_projections::Projection::definition(&name).name.clone();
        let Ok(Some(status)) = self.documents.status(&name).await else { return };
        for generation in [Some(&status.active), status.building.as_ref()].into_iter().flatten() {
            let (position, documents) = stored(&self.documents, generation.generation).await;
            self.compare("documents", generation.version, position, documents).await;
        }
    }

    async fn compare(
        &self,
        what: &str,
        version: u32,
        position: GlobalPosition,
        documents: BTreeMap<String, Value>,
    ) {
        compare(&self.log, &self.wrong, what, version, position, documents).await;
    }

    fn wrong(&self) -> Option<String> {
        self.wrong.lock().expect("no panic inside").clone()
    }
}

async fn compare(
    log: &Arc<MemoryStore>,
    wrong: &Mutex<Option<String>>,
    what: &str,
    version: u32,
    position: GlobalPosition,
    documents: BTreeMap<String, Value>,
) {
    let folded = folded(log.as_ref(), version, position).await;
    if documents != folded {
        let found = format!("{what} at {position}: {documents:?}, not {folded:?}");
        wrong.lock().expect("no panic inside").get_or_insert(found);
    }
}

/// Keeps documents by the news alone, and compares them at each news.
async fn follow(
    watched: Watched,
    log: Arc<MemoryStore>,
    version: u32,
    wrong: Arc<Mutex<Option<String>>>,
) {
    let store = Arc::clone(watched.documents());
    let mut feed = watched.follow();
    'anew: loop {
        let generation = watched.reached().generation;
        let mut held: BTreeMap<String, Value> = BTreeMap::new();
        let mut position = GlobalPosition::START;
        let mut whole = false;
        loop {
            // What the feed does not tell is read, by the changes from the beginning as from
            // anywhere else.
            while !whole {
                let read = ChangesRead { generation, after: position, limit: PAGE_MAX };
                let Ok(page) = store.changes(read).await else {
                    sleep(Duration::from_millis(50)).await;
                    if watched.reached().generation != generation {
                        continue 'anew;
                    }
                    continue;
                };
                if page.through < position {
                    // A crash took back what was told; it comes again.
                    break;
                }
                for (key, _, after) in page.changes {
                    match after {
                        Some(text) => held.insert(
                            key.as_str().into(),
                            serde_json::from_slice(&text).expect("JSON"),
                        ),
                        None => held.remove(key.as_str()),
                    };
                }
                position = page.through;
                whole = !page.more;
            }
            let at_version = held.values().next().and_then(|document| document["version"].as_u64());
            let at_version = at_version.map_or(version, |version| version as u32);
            compare(&log, &wrong, "a follower", at_version, position, held.clone()).await;
            match feed.recv().await {
                Ok(FeedNews::Swapped(_)) => continue 'anew,
                Ok(FeedNews::Batch(batch)) if batch.generation != generation => {}
                Ok(FeedNews::Batch(batch)) if batch.position < position => {}
                Ok(FeedNews::Batch(batch)) if batch.after > position => whole = false,
                Ok(FeedNews::Batch(batch)) if batch.after == batch.position => {
                    whole = batch.position == position;
                }
                Ok(FeedNews::Batch(batch)) => {
                    for change in &batch.changes {
                        let key = change.key.as_str();
                        match &change.before {
                            Before::Unknown => {}
                            _ if batch.after != position => {}
                            Before::Absent => assert!(!held.contains_key(key), "{key}"),
                            Before::Document(before) => {
                                assert_eq!(held.get(key), Some(before.value()), "{key}");
                            }
                        }
                        match &change.after {
                            Some(after) => held.insert(key.into(), after.value().clone()),
                            None => held.remove(key),
                        };
                    }
                    position = batch.position;
                }
                Err(RecvError::Lagged(_)) => whole = false,
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// One history; what went wrong in it, if anything did.
async fn history(seed: u64, plant: Option<Plant>) -> Option<String> {
    let mut random = Random(seed);
    let mut world = World {
        log: Arc::new(MemoryStore::new()),
        documents: MemoryDocuments::new(),
        failing: Arc::new(AtomicBool::new(true)),
        nodes: (0..NODES).map(|_| None).collect(),
        version: 1,
        seed,
        plant,
        wrong: Arc::default(),
        followers: Vec::new(),
    };
    world.start(0).await;
    let mut last = GlobalPosition::START;
    for _ in 0..120 {
        let node = random.below(NODES as u64) as usize;
        match random.below(20) {
            0..9 => {
                let account = random.below(12);
                let amounts: Vec<i64> =
                    (0..=random.below(9)).map(|_| random.below(6) as i64).collect();
                last = append_all(world.log.as_ref(), account, "Added", &amounts).await;
            }
            9 => last = append(world.log.as_ref(), random.below(12), "Bad", 1).await,
            10 => last = support::elsewhere(world.log.as_ref()).await,
            11 | 12 => world.start(node).await,
            13 => world.nodes[node] = None,
            14 => {
                if let Some(projections) = world.nodes[node].take() {
                    projections.close().await;
                }
            }
            15 => {
                let wish = if random.below(3) == 0 { Wish::Cancel } else { Wish::Rebuild };
                let name = Sums::new("sums", 1);
                let name = &tidewire_projections::Projection::definition(&name).name;
                world.documents.wish(name, wish).await.expect("is taken");
            }
            16 if random.below(6) == 0 => {
                world.version += 1;
                world.start(node).await;
            }
            _ => sleep(Duration::from_millis(random.below(4000))).await,
        }
        world.check().await;
        if world.wrong().is_some() {
            return world.wrong();
        }
    }
    // In the end everything is there, however bad it was.
    world.failing.store(false, Ordering::Relaxed);
    world.start(0).await;
    let watched = world.nodes[0].as_ref().and_then(|node| node.get("sums")).expect("is there");
    if let Err(error) = watched.wait(last, SOON).await {
        let status = watched.status().await;
        return Some(format!("never got to {last}: {error}; {status:?}"));
    }
    let quiet = async {
        while watched.status().await.is_ok_and(|status| status.status.building.is_some()) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    if timeout(SOON, quiet).await.is_err() {
        return Some(format!("the rebuild never ended: {:?}", watched.status().await));
    }
    sleep(Duration::from_secs(2)).await;
    world.check().await;
    for node in world.nodes.drain(..) {
        drop(node);
    }
    for follower in std::mem::take(&mut world.followers) {
        if timeout(SOON, follower).await.is_ok_and(|ended| ended.is_err()) {
            return Some("a follower was told of another document than it had".into());
        }
    }
    world.wrong()
}

fn run(seed: u64, plant: Option<Plant>) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(history(seed, plant))
}

#[test]
fn documents_are_a_fold_of_the_log_whatever_happens() {
    let seeds = std::env::var("TIDEWIRE_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(40) {
        let wrong = run(seed, None);
        assert_eq!(wrong, None, "seed {seed}");
    }
}

#[test]
fn a_checkpoint_that_moves_before_its_documents_is_found() {
    assert_found(Plant::CheckpointFirst);
}

#[test]
fn a_stale_owner_that_commits_is_found() {
    assert_found(Plant::NoFence);
}

fn assert_found(plant: Plant) {
    let found = (0..20).find_map(|seed| Some((seed, run(seed, Some(plant))?)));
    let (seed, wrong) = found.expect("one of the seeds finds it");
    println!("{plant:?} is found by seed {seed}: {wrong}");
}
