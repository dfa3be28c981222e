//! Pages tile the log, are read once for all who want them, a few at a time, in turns.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use tidewire_eventstore::{
    Append, AppendError, BoxFuture, CommandKey, CommandName, CommitFeed, ConsumerStore, Executed,
    Execution, ExpectedRevision, LogEpoch, LogHead, MemoryStore, NewEvent, Page, PendingAppend,
    PendingExecution, StoreStats, StreamName,
};
use tokio::sync::Semaphore;

use super::*;

/// A memory store whose reads wait for permits, and which is away for the first few.
struct Gated {
    log: MemoryStore,
    gate: Semaphore,
    away: AtomicUsize,
    /// The next reads that panic.
    broken: AtomicUsize,
    in_flight: AtomicUsize,
    in_flight_max: AtomicUsize,
    order: Mutex<Vec<Target>>,
}

impl Gated {
    async fn with_events(count: usize) -> Arc<Self> {
        let log = MemoryStore::new();
        for stream in 0..count / 500 {
            let event = NewEvent::json(EventType::new("Happened").expect("a good name"), "{}");
            let append = Append {
                stream: StreamName::new(&format!("order-{stream}")).expect("a good name"),
                expected: ExpectedRevision::NoStream,
                events: vec![event; 500],
            };
            log.append(append).expect("a good append").await.expect("a recorded append");
        }
        Arc::new(Self {
            log,
            gate: Semaphore::new(0),
            away: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            in_flight_max: AtomicUsize::new(0),
            order: Mutex::default(),
        })
    }

    fn start(self: &Arc<Self>, kept_bytes_max: usize) -> (CatchUp, Arc<CatchUpMetrics>) {
        let metrics = Arc::<CatchUpMetrics>::default();
        let store: Arc<dyn EventStore> = self.clone();
        let catch_up =
            CatchUp::start(&Handle::current(), store, 4, kept_bytes_max, metrics.clone());
        (catch_up, metrics)
    }
}

impl EventStore for Gated {
    fn append(&self, append: Append) -> Result<PendingAppend, AppendError> {
        self.log.append(append)
    }

    fn execute(&self, execution: Execution) -> Result<PendingExecution, AppendError> {
        self.log.execute(execution)
    }

    fn command_result(
        &self,
        name: &CommandName,
        key: &CommandKey,
    ) -> BoxFuture<'_, Result<Option<Executed>, ReadError>> {
        self.log.command_result(name, key)
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, ReadError>> {
        Box::pin(async move {
            let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.in_flight_max.fetch_max(now, Ordering::SeqCst);
            self.order.lock().expect("nobody panics").push(read.target.clone());
            self.gate.acquire().await.expect("the gate is never closed").forget();
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            let less = |away: usize| away.checked_sub(1);
            if self.broken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
                panic!("as planned");
            }
            if self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
                return Err(ReadError::Unavailable);
            }
            self.log.read(read).await
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<LogHead, ReadError>> {
        self.log.head()
    }

    fn commits(&self) -> CommitFeed {
        self.log.commits()
    }

    fn begin_epoch(&self) -> BoxFuture<'_, Result<LogEpoch, ReadError>> {
        self.log.begin_epoch()
    }

    fn consumers(&self) -> Arc<dyn ConsumerStore> {
        self.log.consumers()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.log.close()
    }

    fn stats(&self) -> StoreStats {
        self.log.stats()
    }
}

fn query(target: Target) -> Arc<Query> {
    Arc::new(Query { generation: Generation::default(), purges: 0, target, types: Vec::new() })
}

fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

fn stream(number: usize) -> Target {
    Target::Stream(StreamName::new(&format!("order-{number}")).expect("a good name"))
}

#[tokio::test]
async fn pages_of_everything_tile_the_log() {
    let store = Gated::with_events(2_500).await;
    store.gate.add_permits(10);
    let (catch_up, _) = store.start(0);
    let all = query(Target::All);
    let mut position = at(700);
    let mut seen = Vec::new();
    loop {
        let page = catch_up.page(PageKey::containing(all.clone(), position)).await.expect("a page");
        let new = page.events.iter().map(|event| event.position).filter(|at| *at > position);
        seen.extend(new.map(GlobalPosition::get));
        assert!(page.scanned > position);
        position = page.scanned;
        if !page.full {
            break;
        }
        assert_eq!(position.get() % PAGE_EVENTS, 0);
    }
    assert_eq!(seen, (701..=2_500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_is_read_once_for_all_who_want_it() {
    let store = Gated::with_events(3_000).await;
    let (catch_up, metrics) = store.start(1 << 20);
    let all = query(Target::All);
    let asking = join_all((0..50).map(|reader| {
        // Readers in different places of the same page.
        let key = PageKey::containing(all.clone(), at(reader * 20));
        let catch_up = catch_up.clone();
        async move { catch_up.page(key).await.expect("a page").events.len() }
    }));
    let opening = async {
        while metrics.requests.load(Ordering::Relaxed) < 50 {
            tokio::task::yield_now().await;
        }
        store.gate.add_permits(1);
    };
    let (counts, ()) = tokio::join!(asking, opening);
    assert_eq!(counts, vec![PAGE_EVENTS as usize; 50]);
    // And one who comes later is given the page that was kept.
    catch_up.page(PageKey::containing(all, at(5))).await.expect("a page");
    assert_eq!(metrics.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn reads_are_few_at_a_time_and_queries_take_turns() {
    let store = Gated::with_events(5_000).await;
    let (catch_up, metrics) = store.start(0);
    // One query wants many pages before another one asks for its only page.
    let mut wanted: Vec<_> =
        (0..20).map(|page| PageKey::exactly(query(stream(0)), at(page * 3))).collect();
    wanted.push(PageKey::exactly(query(stream(1)), at(0)));
    let asking = join_all(wanted.into_iter().map(|key| catch_up.page(key)));
    let opening = async {
        while metrics.requests.load(Ordering::Relaxed) < 21 {
            tokio::task::yield_now().await;
        }
        store.gate.add_permits(21);
    };
    let (pages, ()) = tokio::join!(asking, opening);
    assert!(pages.iter().all(Result::is_ok));
    assert_eq!(store.in_flight_max.load(Ordering::SeqCst), 4);
    let order = store.order.lock().expect("nobody panics");
    let turn = order.iter().position(|target| *target == stream(1)).expect("it was read");
    assert!(turn <= 5, "it had to wait for {turn} pages of another query");
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_a_database_that_is_away() {
    let store = Gated::with_events(500).await;
    store.away.store(5, Ordering::SeqCst);
    store.gate.add_permits(6);
    let (catch_up, _) = store.start(0);
    let page = catch_up.page(PageKey::containing(query(Target::All), at(0))).await.expect("a page");
    assert_eq!((page.events.len(), page.scanned, page.full), (500, at(500), false));
}

#[tokio::test]
async fn what_is_kept_stays_within_its_bytes() {
    let page = |bytes| {
        Arc::new(CatchUpPage { events: Vec::new(), scanned: at(0), full: true, bytes, purges: 0 })
    };
    let key = |after| PageKey::exactly(query(Target::All), at(after));
    let mut kept =
        Kept { pages: HashMap::new(), order: VecDeque::new(), bytes: 0, kept_bytes_max: 100 };
    for after in 0..3 {
        kept.insert(key(after), page(40));
    }
    assert!(kept.get(&key(0)).is_none(), "the oldest goes first");
    assert!(kept.get(&key(1)).is_some() && kept.get(&key(2)).is_some());
    kept.insert(key(3), page(101));
    assert_eq!((kept.pages.len(), kept.bytes), (0, 0), "too large to keep at all");
}

/// Yields until `condition` holds; the test's deadline is a number of turns, not a time.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1_000_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn only_so_many_pages_wait_and_the_others_wait_to_ask() {
    let store = Gated::with_events(500).await;
    let (catch_up, metrics) = store.start(0);
    let all = query(Target::All);
    let wanted = PAGES_WAITING_MAX as u64 + REQUESTS_MAX as u64 + 100;
    let mut asking = JoinSet::new();
    for page in 0..wanted {
        let (catch_up, key) = (catch_up.clone(), PageKey::exactly(all.clone(), at(page)));
        asking.spawn(async move { catch_up.page(key).await.expect("a page") });
    }
    eventually("the channel is full", || {
        let waiting = metrics.waiting_pages.load(Ordering::Relaxed);
        waiting >= PAGES_WAITING_MAX as u64 && catch_up.requests.capacity() == 0
    })
    .await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(metrics.requests.load(Ordering::Relaxed), PAGES_WAITING_MAX as u64);
    assert_eq!(metrics.waiting_pages.load(Ordering::Relaxed), PAGES_WAITING_MAX as u64);
    store.gate.add_permits(wanted as usize);
    assert_eq!(asking.join_all().await.len() as u64, wanted);
    eventually("nothing waits", || metrics.waiting_pages.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn a_page_that_nobody_waits_for_any_more_is_not_read() {
    let store = Gated::with_events(500).await;
    let (catch_up, metrics) = store.start(0);
    let mut asking = JoinSet::new();
    let ask = |asking: &mut JoinSet<u64>, page| {
        let key = PageKey::exactly(query(Target::All), at(page));
        let catch_up = catch_up.clone();
        asking.spawn(async move {
            catch_up.page(key).await.expect("a page");
            page
        })
    };
    for page in 0..4 {
        ask(&mut asking, page);
    }
    let given_up = ask(&mut asking, 4);
    ask(&mut asking, 5);
    eventually("all are asked for", || metrics.waiting_pages.load(Ordering::Relaxed) == 6).await;
    given_up.abort();
    eventually("it is given up", || given_up.is_finished()).await;
    store.gate.add_permits(6);
    let mut read = Vec::new();
    while let Some(page) = asking.join_next().await {
        read.extend(page.ok());
    }
    read.sort_unstable();
    assert_eq!(read, [0, 1, 2, 3, 5]);
    assert_eq!(metrics.reads.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn who_asks_and_goes_again_and_again_leaves_nothing_behind() {
    let store = Gated::with_events(0).await;
    let mut scheduler = Scheduler::new(store, 4, 0, Arc::default());
    let key = PageKey::exactly(query(Target::All), at(0));
    let (answer, _waits) = oneshot::channel();
    scheduler.queue(Request { key: key.clone(), answer });
    for _ in 0..10_000 {
        let (answer, _) = oneshot::channel();
        scheduler.queue(Request { key: key.clone(), answer });
    }
    assert!(scheduler.waiting[&key].len() <= 16, "{} wait", scheduler.waiting[&key].len());
}

#[tokio::test]
async fn a_read_that_dies_is_answered_and_others_go_on() {
    let store = Gated::with_events(500).await;
    let (catch_up, metrics) = store.start(0);
    store.broken.store(1, Ordering::SeqCst);
    store.gate.add_permits(2);
    let key = PageKey::exactly(query(Target::All), at(0));
    let died = catch_up.page(key.clone()).await.expect_err("it died");
    assert_eq!((died.code(), died.retryable()), ("corrupt", false));
    assert_eq!(catch_up.page(key).await.expect("a page").events.len(), 500);
    eventually("nothing waits", || metrics.waiting_pages.load(Ordering::Relaxed) == 0).await;
}
