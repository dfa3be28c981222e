//! What callers leave in the outbox in their own transactions comes into the log: all that was
//! committed, once, nothing that was not, in an order that no caller can tell from its own; with
//! several nodes moving at once, beside long transactions, and whatever dies in between.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection, postgres::PgListener};
use support::{
    Database,
    cluster::Cluster,
    doors::{self, Dice, counted, enqueue},
    eventually, soon, whole_log,
};
use tidewire_eventstore::{
    EventStore, GlobalPosition, LogTail, Payload, RecordedEvent, TailConfig,
    postgres::{ListenMode, PostgresStore},
};

fn data(event: &RecordedEvent) -> &str {
    let Payload::Json(data) = &event.payload else { panic!("not JSON") };
    std::str::from_utf8(data).unwrap()
}

fn number(event: &RecordedEvent) -> u64 {
    data(event).parse().unwrap()
}

/// The payloads of each stream, in the log's order.
fn by_stream(log: &[RecordedEvent]) -> BTreeMap<&str, Vec<u64>> {
    let mut streams: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for event in log {
        streams.entry(event.stream.as_str()).or_default().push(number(event));
    }
    streams
}

async fn log_has(store: &PostgresStore, count: usize) -> Vec<RecordedEvent> {
    eventually("the outbox is moved", || async {
        store.head().await.unwrap().position.get() >= count as u64
    })
    .await;
    let log = whole_log(store).await;
    assert_eq!(log.len(), count);
    log
}

async fn is_empty(connection: &mut PgConnection) -> bool {
    doors::text(connection, "SELECT count(*) FROM tidewire.outbox").await == "0"
}

async fn prepared() -> (Database, PgConnection) {
    let database = Database::create().await;
    PostgresStore::migrate(&database.url).await.unwrap();
    let connection = database.connection().await;
    (database, connection)
}

#[tokio::test]
async fn what_is_committed_comes_into_the_log_byte_for_byte() {
    let (database, mut caller) = prepared().await;
    let events = r#"[{"type":"A", "data": {"a" :  [1, "ü"]}, "meta": {"by":  "me"}},
        {"id":"0189c9fe-0000-7000-8000-000000000001","type":"B","data":null}]"#;
    enqueue(&mut caller, "order-1", events).await.unwrap();
    let store = database.store().await;
    let log = log_has(&store, 2).await;
    assert_eq!(data(&log[0]), r#"{"a" :  [1, "ü"]}"#);
    assert_eq!(log[0].meta.as_deref(), Some(&br#"{"by":  "me"}"#[..]));
    assert_eq!((log[0].event_type.as_str(), log[1].event_type.as_str()), ("A", "B"));
    assert_eq!(log[1].id.to_string(), "0189c9fe-0000-7000-8000-000000000001");
    assert_eq!((data(&log[1]), log[1].meta.as_deref()), ("null", None));
    assert_eq!(log[1].revision.get(), 1);
    assert!(is_empty(&mut caller).await);
    eventually("it is counted", || async { store.stats().outbox_moved_events == 2 }).await;
    store.close().await;
}

#[tokio::test]
async fn a_rollback_leaves_nothing() {
    let (database, mut caller) = prepared().await;
    let store = database.store().await;
    doors::run(&mut caller, "BEGIN").await.unwrap();
    enqueue(&mut caller, "order-1", &counted(1)).await.unwrap();
    doors::run(&mut caller, "ROLLBACK; BEGIN; SAVEPOINT here").await.unwrap();
    enqueue(&mut caller, "order-1", &counted(2)).await.unwrap();
    doors::run(&mut caller, "ROLLBACK TO here").await.unwrap();
    enqueue(&mut caller, "order-1", &counted(3)).await.unwrap();
    doors::run(&mut caller, "COMMIT").await.unwrap();
    let log = log_has(&store, 1).await;
    assert_eq!(number(&log[0]), 3);
    assert!(is_empty(&mut caller).await);
    store.close().await;
}

#[tokio::test]
async fn followers_here_and_elsewhere_hear_of_what_was_moved_without_looking() {
    let (database, mut caller) = prepared().await;
    let mut listener = PgListener::connect(&database.url).await.unwrap();
    listener.listen("tidewire").await.unwrap();
    // It looks at the head far too seldom to see anything by itself.
    let mut options = database.options();
    options.head_poll = Duration::from_secs(3600);
    options.listen = ListenMode::PollOnly;
    let store = support::connect(options).await;
    let config = TailConfig::with_head_poll(support::DEADLINE * 10);
    let mut tail = LogTail::new(Arc::clone(&store) as _, GlobalPosition::START, config);
    for n in 1..=5_u64 {
        enqueue(&mut caller, "order-1", &counted(n)).await.unwrap();
        let batch = soon("news here", tail.next()).await;
        let event = batch.events.last().unwrap();
        assert_eq!((event.position.get(), number(event)), (n, n));
        let notification = soon("news elsewhere", listener.recv()).await.unwrap();
        assert_eq!(notification.payload(), n.to_string());
    }
    store.close().await;
}

#[tokio::test]
async fn nobody_waits_for_somebody_elses_open_transaction() {
    let (database, mut caller) = prepared().await;
    let store = database.store().await;
    // One that reads, one that wrote something else, and two that enqueued.
    let mut open = Vec::new();
    for begin in [
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tidewire.outbox",
        "BEGIN; SELECT pg_current_xact_id()",
        "BEGIN; SELECT tidewire.enqueue('late-1', '{\"type\":\"T\",\"data\":1}')",
        "BEGIN ISOLATION LEVEL SERIALIZABLE;
         SELECT tidewire.enqueue('late-2', '{\"type\":\"T\",\"data\":1}')",
    ] {
        let mut connection = database.connection().await;
        doors::run(&mut connection, begin).await.unwrap();
        open.push(connection);
    }
    for n in 0..200 {
        enqueue(&mut caller, &format!("soon-{}", n % 7), &counted(n)).await.unwrap();
        if n % 50 == 0 {
            support::submit(&*store, support::append("own-1", vec![support::event("1")]))
                .await
                .unwrap();
        }
    }
    let log = log_has(&store, 204).await;
    assert!(log.iter().all(|event| event.stream.category_str() != "late"));
    for connection in &mut open {
        doors::run(connection, "COMMIT").await.unwrap();
    }
    let log = log_has(&store, 206).await;
    assert_eq!(by_stream(&log[204..]).len(), 2, "both that were late");
    assert!(is_empty(&mut caller).await);
    store.close().await;
}

#[tokio::test]
async fn a_long_transaction_does_not_make_the_mover_read_what_it_moved() {
    const CALLS: usize = 3000;
    let (database, mut caller) = prepared().await;
    let store = database.store().await;
    let mut open = database.connection().await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()";
    doors::run(&mut open, begin).await.unwrap();
    let many = format!(
        "SELECT tidewire.enqueue('many-1', tidewire.event('T', '1'))
           FROM generate_series(1, {CALLS})"
    );
    doors::run(&mut caller, &many).await.unwrap();
    log_has(&store, CALLS).await;
    let deleted = "SELECT n_tup_del FROM pg_stat_user_tables WHERE relname = 'outbox'";
    wait_for(&mut caller, deleted, |deleted| deleted == CALLS as i64).await;
    // The rows are dead, and cannot be cleared away while the transaction is open.
    let read = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes
                 WHERE relname = 'outbox'";
    let before = wait_for(&mut caller, read, |_| true).await;
    for n in 1..=20 {
        enqueue(&mut caller, "one-1", &counted(1)).await.unwrap();
        log_has(&store, CALLS + n).await;
    }
    let read = wait_for(&mut caller, read, |now| now >= before + 20).await - before;
    assert!(read < CALLS as i64, "{read} index entries read for 20 calls");
    store.close().await;
}

/// Waits until a number that the server counts satisfies `enough`, and returns it.
async fn wait_for(connection: &mut PgConnection, sql: &str, enough: impl Fn(i64) -> bool) -> i64 {
    let since = Instant::now();
    loop {
        let number: i64 = doors::text(connection, sql).await.parse().unwrap();
        if enough(number) {
            return number;
        }
        assert!(since.elapsed() < support::DEADLINE, "not within the deadline: {sql}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One transaction of a mover that takes one call: what it moved, and how to go on.
async fn move_one(
    connection: &mut PgConnection,
    moved: Option<&str>,
    round: Option<(&str, i64)>,
) -> (String, Option<i64>, bool, i32) {
    sqlx::query_as(
        "SELECT m.round::text, m.after, m.complete, m.events
           FROM tidewire.move_outbox($1::text::pg_snapshot, $2::text::pg_snapshot, $3, 1, 1000) m",
    )
    .bind(moved)
    .bind(round.map(|(snapshot, _)| snapshot))
    .bind(round.map(|(_, after)| after))
    .fetch_one(connection)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_round_takes_what_its_snapshot_sees_and_nothing_newer() {
    let (database, mut caller) = prepared().await;
    let mut slow = database.connection().await;
    let mut mover = database.connection().await;
    let (start, _, complete, _) = move_one(&mut mover, None, None).await;
    assert!(complete);
    // "1" is drawn first and committed in the middle of the round; "4" follows from it.
    doors::run(&mut slow, "BEGIN").await.unwrap();
    enqueue(&mut slow, "order-1", &counted(1)).await.unwrap();
    enqueue(&mut caller, "order-1", &counted(2)).await.unwrap();
    enqueue(&mut caller, "order-1", &counted(3)).await.unwrap();
    let (round, after, complete, _) = move_one(&mut mover, Some(&start), None).await;
    assert_eq!((after, complete), (Some(2), false));
    doors::run(&mut slow, "COMMIT").await.unwrap();
    enqueue(&mut caller, "order-1", &counted(4)).await.unwrap();
    let round = (round.as_str(), after.unwrap());
    let (moved, after, complete, _) = move_one(&mut mover, Some(&start), Some(round)).await;
    assert_eq!((after, complete), (Some(3), true));
    let (round, after, complete, _) = move_one(&mut mover, Some(&moved), None).await;
    assert_eq!((after, complete), (Some(1), false));
    let round = (round.as_str(), after.unwrap());
    let (_, after, complete, _) = move_one(&mut mover, Some(&moved), Some(round)).await;
    assert_eq!((after, complete), (Some(4), true));
    let store = database.store().await;
    assert!(log_has(&store, 4).await.iter().map(number).eq([2, 3, 1, 4]));
    store.close().await;
}

#[tokio::test]
async fn what_was_restored_from_another_servers_dump_is_moved_too() {
    let (database, mut caller) = prepared().await;
    enqueue(&mut caller, "order-1", &counted(1)).await.unwrap();
    let change = "UPDATE tidewire.outbox SET transaction = '9000000000000'";
    doors::run(&mut caller, change).await.unwrap();
    let store = database.store().await;
    log_has(&store, 1).await;
    store.close().await;
}

#[tokio::test]
async fn what_a_mover_cannot_know_of_is_found_all_the_same() {
    let (database, mut caller) = prepared().await;
    let store = database.store().await;
    enqueue(&mut caller, "order-1", &counted(1)).await.unwrap();
    log_has(&store, 1).await;
    // As if a proxy had changed the server, for one whose transactions have lower numbers.
    doors::run(
        &mut caller,
        "BEGIN;
         SELECT tidewire.enqueue('order-1', tidewire.event('Counted', '2'));
         UPDATE tidewire.outbox SET transaction = '3';
         COMMIT",
    )
    .await
    .unwrap();
    assert_eq!(number(&log_has(&store, 2).await[1]), 2);
    store.close().await;
}

#[tokio::test]
async fn an_id_that_was_recorded_before_is_not_recorded_again() {
    let (database, mut caller) = prepared().await;
    let event = |n: u8| {
        format!(r#"{{"id":"00000000-0000-0000-0000-00000000000{n}","type":"T","data":{n}}}"#)
    };
    doors::append(&mut caller, "order-1", &event(1), "any").await.unwrap();
    // Again, together with another; twice before either is moved; and once more afterwards.
    let both = format!("[{},{}]", event(1), event(2));
    enqueue(&mut caller, "order-1", &both).await.unwrap();
    enqueue(&mut caller, "order-1", &both).await.unwrap();
    enqueue(&mut caller, "order-1", &event(3)).await.unwrap();
    let store = database.store().await;
    log_has(&store, 3).await;
    enqueue(&mut caller, "order-1", &event(3)).await.unwrap();
    enqueue(&mut caller, "order-1", &event(4)).await.unwrap();
    let log = log_has(&store, 4).await;
    assert!(log.iter().map(number).eq(1..=4));
    // An append sent again by the same id, through the other door, has the first answer.
    let answer = doors::append(&mut caller, "order-1", &event(4), "no_stream").await;
    assert_eq!(answer, Ok((4, 3)));
    store.close().await;
}

#[tokio::test]
async fn the_outbox_has_a_bound_and_has_room_again_once_it_is_moved() {
    let (database, mut caller) = prepared().await;
    doors::run(&mut caller, "UPDATE tidewire.outbox_bounds SET calls_max = 5").await.unwrap();
    for n in 1..=5 {
        enqueue(&mut caller, "order-1", &counted(n)).await.unwrap();
    }
    let refused = enqueue(&mut caller, "order-1", &counted(6)).await.unwrap_err();
    assert_eq!((refused.sqlstate.as_str(), refused.code.as_str()), ("TW030", "overloaded"));
    let store = database.store().await;
    log_has(&store, 5).await;
    for n in 6..=12 {
        let since = Instant::now();
        while let Err(refused) = enqueue(&mut caller, "order-1", &counted(n)).await {
            assert_eq!(refused.code, "overloaded");
            assert!(since.elapsed() < support::DEADLINE, "the outbox is moved and has no room");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(log_has(&store, 12).await.iter().map(number).eq(1..=12));
    store.close().await;
}

#[tokio::test]
async fn what_waits_is_counted_while_it_cannot_be_moved_at_once() {
    let (database, mut caller) = prepared().await;
    let many = "SELECT tidewire.enqueue('many-1', tidewire.event('T', '1'))
                  FROM generate_series(1, 20000)";
    doors::run(&mut caller, many).await.unwrap();
    let store = database.store().await;
    eventually("a backlog is seen", || async {
        let stats = store.stats();
        stats.outbox_waiting_calls > 0 && stats.outbox_oldest_age > Duration::ZERO
    })
    .await;
    log_has(&store, 20_000).await;
    eventually("it is gone", || async {
        let stats = store.stats();
        stats.outbox_moved_events == 20_000
            && stats.outbox_waiting_calls == 0
            && stats.outbox_oldest_age == Duration::ZERO
    })
    .await;
    store.close().await;
}

/// Ends the mover's session while it waits for a lock.
async fn kill_the_mover(connection: &mut PgConnection, database: &Database) {
    let killed = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
          WHERE datname = '{}' AND query LIKE '%tidewire.move_outbox%'
            AND wait_event_type = 'Lock'",
        database.name
    );
    wait_for(connection, &killed, |killed| killed == 1).await;
}

#[tokio::test]
async fn a_mover_that_dies_in_the_middle_leaves_nothing_undone_and_nothing_done_twice() {
    let (database, mut caller) = prepared().await;
    let store = database.store().await;
    let mut holder = database.connection().await;
    let mut number_of_events = 0;
    for what in [
        // Before it has the append lock, while it deletes, and while it inserts.
        "BEGIN; SELECT FROM tidewire.head FOR UPDATE",
        "BEGIN; LOCK TABLE tidewire.requests IN EXCLUSIVE MODE",
        "BEGIN; LOCK TABLE tidewire.events IN SHARE MODE",
    ] {
        doors::run(&mut holder, what).await.unwrap();
        for _ in 0..3 {
            number_of_events += 1;
            let id = format!(
                r#"{{"id":"{}","type":"T","data":{number_of_events}}}"#,
                uuid::Uuid::new_v4()
            );
            enqueue(&mut caller, "order-1", &id).await.unwrap();
        }
        kill_the_mover(&mut caller, &database).await;
        doors::run(&mut holder, "ROLLBACK").await.unwrap();
        let log = log_has(&store, number_of_events).await;
        assert!(log.iter().map(number).eq(1..=number_of_events as u64));
        assert!(is_empty(&mut caller).await);
    }
    store.close().await;
}

/// Transactions that each wait for the one before by a row of the application's own, having
/// written something else first: what the row says is the order of events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_transactions_that_waited_for_each_other_keep_that_order() {
    let (database, mut caller) = prepared().await;
    doors::run(
        &mut caller,
        "CREATE TABLE counter (n bigint); INSERT INTO counter VALUES (0); CREATE TABLE audit ()",
    )
    .await
    .unwrap();
    let stores = [database.store().await, database.store().await];
    let callers = (0..6).map(|_| {
        let url = database.url.clone();
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            for _ in 0..50 {
                doors::run(
                    &mut connection,
                    "BEGIN; INSERT INTO audit DEFAULT VALUES;
                     UPDATE counter SET n = n + 1;
                     SELECT tidewire.enqueue('counter-1', tidewire.event('Counted', to_json(n)))
                       FROM counter;
                     COMMIT",
                )
                .await
                .unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let log = log_has(&stores[0], 300).await;
    assert!(log.iter().map(number).eq(1..=300), "{:?}", log.iter().map(number).collect::<Vec<_>>());
    for store in stores {
        store.close().await;
    }
}

/// One caller, which tells what it committed: transactions of some calls each, of which some are rolled back and some stay open
/// for a while. Every event goes to the caller's own stream and is numbered.
async fn call(
    mut connection: PgConnection,
    caller: u64,
    seed: u64,
    transactions: u64,
    wrote: Arc<Mutex<Vec<u64>>>,
) -> PgConnection {
    let mut dice = Dice(seed ^ (caller << 32));
    let stream = format!("caller-{caller}");
    let mut number = 0;
    for _ in 0..transactions {
        let mut here = Vec::new();
        doors::run(&mut connection, "BEGIN").await.unwrap();
        if dice.roll(2) == 0 {
            // The transaction has its number long before it enqueues anything.
            doors::run(&mut connection, "SELECT pg_current_xact_id()").await.unwrap();
        }
        for _ in 0..=dice.roll(3) {
            let savepoint = dice.roll(4) == 0;
            if savepoint {
                doors::run(&mut connection, "SAVEPOINT here").await.unwrap();
            }
            let count = if dice.roll(30) == 0 { 400 } else { 1 + dice.roll(3) };
            let numbers: Vec<u64> = (number..number + count).collect();
            number += count;
            let events: Vec<String> = numbers.iter().map(counted).collect();
            enqueue(&mut connection, &stream, &format!("[{}]", events.join(","))).await.unwrap();
            if savepoint && dice.roll(2) == 0 {
                doors::run(&mut connection, "ROLLBACK TO here").await.unwrap();
            } else {
                here.extend(numbers);
            }
        }
        for _ in 0..dice.roll(20) {
            tokio::task::yield_now().await;
            if dice.roll(10) == 0 {
                doors::run(&mut connection, "SELECT 1").await.unwrap();
            }
        }
        if dice.roll(4) == 0 {
            doors::run(&mut connection, "ROLLBACK").await.unwrap();
        } else {
            doors::run(&mut connection, "COMMIT").await.unwrap();
            wrote.lock().unwrap().extend(here);
        }
    }
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_move_and_append_at_once_lose_double_and_reorder_nothing() {
    const CALLERS: u64 = 6;
    let seed: u64 = std::env::var("TIDEWIRE_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("TIDEWIRE_TEST_SEED={seed}");
    let (database, _connection) = prepared().await;
    let wrote: Vec<Arc<Mutex<Vec<u64>>>> = (0..CALLERS).map(|_| Arc::default()).collect();
    let run = |seed: u64, transactions: u64| {
        let callers = wrote.iter().enumerate().map(|(caller, wrote)| {
            let (url, wrote) = (database.url.clone(), Arc::clone(wrote));
            tokio::spawn(async move {
                let connection = PgConnection::connect(&url).await.unwrap();
                call(connection, caller as u64, seed, transactions, wrote).await
            })
        });
        callers.collect::<Vec<_>>()
    };
    // A backlog from before any node was there, which takes several transactions to move.
    for caller in run(seed, 20) {
        caller.await.unwrap();
    }
    let backlog: Vec<Vec<u64>> =
        wrote.iter().map(|wrote| std::mem::take(&mut *wrote.lock().unwrap())).collect();

    let stores = [database.store().await, database.store().await];
    let store: Arc<dyn EventStore> = Arc::clone(&stores[1]) as _;
    let mut tail = LogTail::new(store, GlobalPosition::START, TailConfig::default());
    let stop = Arc::new(AtomicBool::new(false));
    let appenders = stores.each_ref().map(|store| {
        let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut appended = 0_usize;
            while !stop.load(Relaxed) {
                let event = support::event(appended.to_string());
                support::submit(&*store, support::append("shared-1", vec![event])).await.unwrap();
                appended += 1;
            }
            appended
        })
    });
    for caller in run(seed + 1, 40) {
        caller.await.unwrap();
    }
    stop.store(true, Relaxed);
    let mut appended = 0;
    for appender in appenders {
        appended += appender.await.unwrap();
    }

    let expected: Vec<Vec<u64>> = backlog
        .into_iter()
        .zip(&wrote)
        .map(|(backlog, wrote)| [backlog, wrote.lock().unwrap().clone()].concat())
        .collect();
    let count = appended + expected.iter().map(Vec::len).sum::<usize>();
    let log = log_has(&stores[0], count).await;
    let streams = by_stream(&log);
    for (caller, expected) in expected.iter().enumerate() {
        let found = streams.get(format!("caller-{caller}").as_str());
        assert_eq!(found, Some(expected), "caller {caller}, seed {seed}");
    }
    let mut followed = Vec::new();
    while followed.len() < count {
        followed.extend(soon("news", tail.next()).await.events.iter().cloned());
    }
    assert_eq!(followed, log, "what was followed is what was recorded");
    let mut connection = database.connection().await;
    assert!(is_empty(&mut connection).await);
    for store in stores {
        store.close().await;
    }
}

/// A caller that goes on across crashes of the server: what it knows to be committed, in its
/// order, and what became nobody knows what of.
async fn persist(url: String, stream: String, stop: Arc<AtomicBool>) -> (Vec<u64>, BTreeSet<u64>) {
    let (mut committed, mut in_doubt) = (Vec::new(), BTreeSet::new());
    let mut number = 0;
    while !stop.load(Relaxed) {
        let Ok(mut connection) = PgConnection::connect(&url).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !stop.load(Relaxed) {
            number += 1;
            let call = sqlx::query("SELECT tidewire.enqueue($1, $2::text::json)")
                .bind(&stream)
                .bind(counted(number))
                .execute(&mut connection)
                .await;
            if call.is_err() {
                in_doubt.insert(number);
                break;
            }
            committed.push(number);
        }
    }
    (committed, in_doubt)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_doubles_and_reorders_nothing() {
    const CALLERS: usize = 4;
    let mut cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let database = Database::create_on(&cluster.url()).await;
    let stores = [database.store().await, database.store().await];
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (url, stop) = (database.url.clone(), Arc::clone(&stop));
            tokio::spawn(persist(url, format!("caller-{caller}"), stop))
        })
        .collect();
    for _ in 0..3 {
        let moved = || stores.iter().map(|store| store.stats().outbox_moved_events).sum::<u64>();
        let before = moved();
        eventually("events are moved", || async { moved() > before + 50 }).await;
        let killed = cluster;
        cluster = tokio::task::spawn_blocking(move || {
            killed.kill();
            killed.resume();
            killed
        })
        .await
        .unwrap();
    }
    stop.store(true, Relaxed);
    let mut wrote = Vec::new();
    for caller in callers {
        wrote.push(caller.await.unwrap());
    }
    // What was in doubt may be there or not; there is nothing left to come once it is empty.
    let mut connection = database.connection().await;
    wait_for(&mut connection, "SELECT count(*) FROM tidewire.outbox", |left| left == 0).await;
    let log = whole_log(&*stores[0]).await;
    let streams = by_stream(&log);
    for (caller, (committed, in_doubt)) in wrote.iter().enumerate() {
        let found = &streams[format!("caller-{caller}").as_str()];
        let known: Vec<u64> =
            found.iter().copied().filter(|number| !in_doubt.contains(number)).collect();
        assert_eq!(known, *committed, "caller {caller}");
        assert!(found.is_sorted() && found.windows(2).all(|pair| pair[0] < pair[1]));
    }
    for store in stores {
        store.close().await;
    }
}
