//! Durable consumers on SQLite and PostgreSQL: claims, a batch of saves, a second's keep; and what
//! a node that saves a thousand consumers every second costs the appends beside it. Medians.
//!
//! `cargo bench -p tidewire-eventstore --features sqlite,postgres --bench consumers [ROUNDS]`
//!
//! PostgreSQL is measured where `TIDEWIRE_BENCH_POSTGRES` names an empty database.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tidewire_eventstore::{
    Append, Claim, ConsumerName, ConsumerStore, EventStore, EventType, ExpectedRevision,
    GlobalPosition, Holding, MemberId, NewEvent, Parked, Save, Sharing, SqliteOptions, SqliteStore,
    StreamName, Target,
    postgres::{PostgresOptions, PostgresStore},
};

const CONSUMERS: usize = 1000;
const CALLERS: u64 = 32;

/// What a node holds.
struct Held {
    saves: Vec<Save>,
    holdings: Vec<Holding>,
}

async fn claim_all(consumers: &dyn ConsumerStore) -> Held {
    let mut held = Held { saves: Vec::new(), holdings: Vec::new() };
    for number in 0..CONSUMERS {
        let claim = Claim {
            name: ConsumerName::new(&format!("consumer-{number}")).expect("a good name"),
            sharing: Sharing::Exclusive,
            member: MemberId::generate(),
            node: "bench".into(),
            target: Target::All,
            filter: None,
            after: GlobalPosition::START,
        };
        let claimed = consumers.claim(claim.clone()).await.expect("a good claim");
        let claimed = claimed.partitions.first().expect("its only partition").clone();
        held.holdings.push(Holding {
            name: claim.name.clone(),
            member: claim.member,
            partitions: vec![(claimed.partition, claimed.fence)],
        });
        held.saves.push(Save {
            name: claim.name,
            member: claim.member,
            partition: claimed.partition,
            fence: claimed.fence,
            checkpoint: claimed.checkpoint,
            attempts: vec![(GlobalPosition::new(8), 1)],
            parked: Vec::new(),
            replayed: Vec::new(),
            release: None,
        });
    }
    held
}

/// Saves all with a checkpoint one higher, and an event parked by every hundredth where wanted.
async fn save(consumers: &dyn ConsumerStore, held: &mut Held, parks: bool) {
    for (number, save) in held.saves.iter_mut().enumerate() {
        save.checkpoint = save.checkpoint.next();
        save.parked.clear();
        if parks && number % 100 == 0 {
            let (position, reason) = (save.checkpoint, "attempts spent".to_owned());
            save.parked.push(Parked { position, attempts: 3, reason });
        }
    }
    let answers = consumers.save(held.saves.clone()).await.expect("answered");
    assert!(answers.iter().all(Result::is_ok));
}

/// Appends for a while; events a second and the 99th percentile of their times.
async fn append_for(store: &Arc<dyn EventStore>, time: Duration) -> (f64, Duration) {
    let began = Instant::now();
    let tasks: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut times = Vec::new();
                while began.elapsed() < time {
                    let event_type = EventType::new("Happened").expect("a good name");
                    let append = Append {
                        stream: StreamName::new(&format!("bench-{caller}")).expect("a good name"),
                        expected: ExpectedRevision::Any,
                        events: vec![NewEvent::json(event_type, "{\"number\": 1}")],
                    };
                    let since = Instant::now();
                    store.append(append).expect("room").await.expect("recorded");
                    times.push(since.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("no caller panics"));
    }
    times.sort_unstable();
    (times.len() as f64 / began.elapsed().as_secs_f64(), times[times.len() * 99 / 100])
}

fn median<T: Copy + PartialOrd>(mut values: Vec<T>) -> T {
    values.sort_by(|one, next| one.partial_cmp(next).expect("comparable"));
    values[values.len() / 2]
}

async fn measure(what: &str, store: Arc<dyn EventStore>, rounds: usize) {
    let consumers = store.consumers();
    let since = Instant::now();
    claim_all(&*consumers).await;
    let first = since.elapsed();
    let since = Instant::now();
    let mut held = claim_all(&*consumers).await;
    let again = since.elapsed();
    println!("{what}: {CONSUMERS} claims one by one: {first:.2?} created, {again:.2?} taken over");
    let (mut saving, mut parking, mut keeping) = (Vec::new(), Vec::new(), Vec::new());
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (times, parks) in [(&mut saving, false), (&mut parking, true)] {
            let since = Instant::now();
            save(&*consumers, &mut held, parks).await;
            times.push(since.elapsed());
        }
        let since = Instant::now();
        consumers.keep(held.holdings.clone()).await.expect("kept");
        keeping.push(since.elapsed());

        let time = Duration::from_secs(4);
        alone.push(append_for(&store, time).await);
        let ticking = async {
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            loop {
                ticks.tick().await;
                save(&*consumers, &mut held, true).await;
                consumers.keep(held.holdings.clone()).await.expect("kept");
            }
        };
        tokio::select! {
            measured = append_for(&store, time) => beside.push(measured),
            () = ticking => unreachable!("it ticks for ever"),
        }
    }
    println!(
        "{what}: a batch of {CONSUMERS} saves {:.2?}, of which 10 park {:.2?}; a keep {:.2?}",
        median(saving),
        median(parking),
        median(keeping),
    );
    for (how, runs) in [("alone", alone), ("beside a node that saves and keeps all", beside)] {
        let (rates, tails): (Vec<f64>, Vec<Duration>) = runs.into_iter().unzip();
        println!("{what}: appends {how}: {:.0} events/s, p99 {:.2?}", median(rates), median(tails));
    }
    store.close().await;
}

#[tokio::main]
async fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(3);
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = SqliteStore::open(folder.path().join("log.db"), SqliteOptions::serve()).await;
    measure("SQLite", Arc::new(sqlite.expect("a new log opens")), rounds).await;
    if let Ok(url) = std::env::var("TIDEWIRE_BENCH_POSTGRES") {
        let postgres = PostgresStore::connect(PostgresOptions::new(url)).await;
        measure("PostgreSQL", Arc::new(postgres.expect("it connects")), rounds).await;
    }
}
