//! The writer against a database that fails in every way: it loses answers to commits, refuses
//! rows, goes away and comes back. What everybody is told must be true.
//!
//! The log is a list in the test's hands; the clock is paused, so that waiting costs nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    Append, AppendError, Appended, CommandKey, CommandName, Commit, EventType, Execution,
    ExpectedRevision, GlobalPosition, InputDigest, Limits, NewEvent, PendingAppend, RecordedEvent,
    Revision, StreamName, Timestamp,
    plan::{self, CommandRow, LogState, Plan, Request},
    writer::{Away, Backend, CommitError, Writer},
};

/// What happens to one commit.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The connection breaks before the COMMIT.
    Before,
    /// The answer is lost, the rows are not.
    AnswerLost,
    /// The answer is lost, and the database stays away.
    AnswerLostThenAway,
    /// The answer and the rows are lost.
    CommitLost,
    /// The answer and the rows are lost, and another process records the same commands.
    Overtaken,
}

#[derive(Default)]
struct Database {
    events: Vec<RecordedEvent>,
    commands: HashMap<(CommandName, CommandKey), CommandRow>,
    faults: VecDeque<Fault>,
    away: bool,
    /// Sizes of the groups that were tried.
    tried: Vec<usize>,
    closed: bool,
}

impl Database {
    fn record(&mut self, commands: &[CommandRow]) {
        let named = |row: &CommandRow| ((row.name.clone(), row.key.clone()), row.clone());
        self.commands.extend(commands.iter().map(named));
    }
}

#[derive(Clone)]
struct Faulty {
    database: Arc<Mutex<Database>>,
    /// Each commit takes a permit: the test decides when groups are taken.
    gate: Arc<Semaphore>,
}

impl Faulty {
    fn new(faults: &[Fault]) -> Self {
        let faults = faults.iter().copied().collect();
        let database = Arc::new(Mutex::new(Database { faults, ..Database::default() }));
        Self { database, gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Database> {
        self.database.lock().expect("no test panics while holding it")
    }
}

impl Backend for Faulty {
    async fn commit(&mut self, group: &[Request]) -> Result<Plan, CommitError> {
        self.gate.acquire().await.expect("never closed").forget();
        let mut database = self.lock();
        database.tried.push(group.len());
        if database.away {
            return Err(Away("away".into()).into());
        }
        if group.iter().any(|request| request.stream.as_str() == "poison") {
            return Err(CommitError::Refused("poison".into()));
        }
        let head = GlobalPosition::new(database.events.len() as u64);
        let revisions =
            database.events.iter().map(|event| (event.stream.clone(), event.revision)).collect();
        let plan = plan::plan(
            group,
            &LogState {
                head,
                revisions,
                commands: database.commands.clone(),
                ..Default::default()
            },
            Timestamp::now(),
        );
        let fault = database.faults.pop_front();
        database.away = matches!(fault, Some(Fault::AnswerLostThenAway));
        if !matches!(fault, Some(Fault::Before | Fault::CommitLost | Fault::Overtaken)) {
            database.events.extend(plan.events.iter().cloned());
            database.record(&plan.commands);
        }
        if matches!(fault, Some(Fault::Overtaken)) {
            let execution = Uuid::now_v7();
            let theirs = |row: &CommandRow| CommandRow {
                execution,
                result: "\"theirs\"".into(),
                appended: None,
                ..row.clone()
            };
            let theirs: Vec<_> = plan.commands.iter().map(theirs).collect();
            database.record(&theirs);
        }
        match fault {
            None => Ok(plan),
            Some(Fault::Before) => Err(Away("broken".into()).into()),
            Some(_) => Err(CommitError::Unknown(Box::new(plan))),
        }
    }

    async fn resolve(&mut self, plan: &Plan) -> Result<bool, Away> {
        self.reconnect().await?;
        let database = self.lock();
        if let Some(first) = plan.events.first() {
            return Ok(database.events.iter().any(|event| event.id == first.id));
        }
        let first = plan.commands.first().expect("only plans with rows are in doubt");
        Ok(database.commands.values().any(|row| row.execution == first.execution))
    }

    async fn reconnect(&mut self) -> Result<(), Away> {
        if self.lock().away { Err(Away("away".into())) } else { Ok(()) }
    }

    async fn close(&mut self) {
        self.lock().closed = true;
    }
}

fn one(stream: &str) -> Append {
    Append {
        stream: StreamName::new(stream).expect("a good name"),
        expected: ExpectedRevision::Any,
        events: vec![NewEvent::json(EventType::new("T").expect("a good name"), "1")],
    }
}

fn submit(writer: &Writer, streams: &[&str]) -> Vec<PendingAppend> {
    streams.iter().map(|name| writer.append(one(name)).expect("room in the queue")).collect()
}

async fn outcomes(pending: Vec<PendingAppend>) -> Vec<Result<u64, AppendError>> {
    let mut outcomes = Vec::new();
    for pending in pending {
        outcomes.push(pending.await.map(|appended: Appended| appended.position.get()));
    }
    outcomes
}

/// Whatever befalls the first commits, every append is recorded once, answered with its place,
/// and published once.
#[tokio::test(start_paused = true)]
async fn a_broken_commit_is_neither_lost_nor_doubled() {
    use Fault::{AnswerLost, Before, CommitLost};
    for faults in [
        &[][..],
        &[Before],
        &[AnswerLost],
        &[CommitLost],
        &[CommitLost, AnswerLost],
        &[Before, CommitLost, CommitLost, AnswerLost, Before],
    ] {
        let backend = Faulty::new(faults);
        let writer = Writer::start(backend.clone(), Limits::default());
        let mut feed = writer.commits();
        let pending = submit(&writer, &["a", "b", "a"]);
        assert_eq!(outcomes(pending).await, [Ok(1), Ok(2), Ok(3)], "{faults:?}");
        assert_eq!(outcomes(submit(&writer, &["a"])).await, [Ok(4)], "{faults:?}");
        writer.close().await;
        drop(writer);
        let mut published = Vec::new();
        while let Ok(Commit::Batch { events, .. }) = feed.recv().await {
            published.extend_from_slice(&events);
        }
        let database = backend.lock();
        assert_eq!(database.events, published, "{faults:?}");
        assert_eq!(database.events.last().map(|event| event.revision), Some(Revision::new(2)));
        assert!(database.closed);
    }
}

/// Commands without events too: recorded once, and told as recorded first; where another process
/// came first, what that one recorded.
#[tokio::test(start_paused = true)]
async fn a_command_in_doubt_is_found_by_its_execution() {
    use Fault::{AnswerLost, Before, CommitLost, Overtaken};
    for (faults, expected) in [
        (&[AnswerLost][..], ("\"ours\"", false)),
        (&[CommitLost], ("\"ours\"", false)),
        (&[Before, CommitLost, AnswerLost], ("\"ours\"", false)),
        (&[Overtaken], ("\"theirs\"", true)),
        (&[CommitLost, Overtaken], ("\"theirs\"", true)),
    ] {
        for append in [None, Some(one("a"))] {
            let backend = Faulty::new(faults);
            let writer = Writer::start(backend.clone(), Limits::default());
            let command = Execution {
                name: CommandName::new("count").expect("a good name"),
                key: CommandKey::new("k").expect("a good key"),
                input: InputDigest::of(b""),
                result: "\"ours\"".into(),
                append,
            };
            let pending = writer.execute(command.clone()).expect("room in the queue");
            let done = pending.await.expect("recorded");
            assert_eq!((&done.result[..], done.repeated), (expected.0.as_bytes(), expected.1));
            let again = writer.execute(command.clone()).expect("room in the queue").await;
            assert_eq!(again.map(|again| again.result), Ok(done.result), "{faults:?}");
            let events = usize::from(command.append.is_some() && !expected.1);
            assert_eq!(backend.lock().events.len(), events, "{faults:?}");
            writer.close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_anything_while_a_commit_is_in_doubt() {
    let backend = Faulty::new(&[Fault::AnswerLostThenAway]);
    let limits = Limits::default();
    let patience = limits.away_wait;
    let writer = Writer::start(backend.clone(), limits);
    let mut feed = writer.commits();
    let mut doubtful = writer.append(one("a")).expect("room in the queue");
    // Until the answer is lost nothing else may join the group.
    tokio::time::timeout(patience, &mut doubtful).await.expect_err("nobody knows yet");
    let behind = submit(&writer, &["b"]);
    assert_eq!(outcomes(behind).await, [Err(AppendError::Unavailable)]);
    tokio::time::timeout(patience * 3, &mut doubtful).await.expect_err("nobody knows yet");
    assert!(feed.try_recv().is_err());
    backend.lock().away = false;
    assert_eq!(doubtful.await.map(|appended| appended.position.get()), Ok(1));
    assert!(matches!(feed.try_recv(), Ok(Commit::Batch { .. })));
    writer.close().await;
}

/// When the store closes first, the honest answer is that nobody knows.
#[tokio::test(start_paused = true)]
async fn closing_in_doubt_says_so() {
    let backend = Faulty::new(&[Fault::AnswerLostThenAway]);
    let writer = Writer::start(backend.clone(), Limits::default());
    let pending = submit(&writer, &["a"]);
    writer.close().await;
    assert_eq!(outcomes(pending).await, [Err(AppendError::Unknown)]);
}

/// What the database refuses fails alone, and the order of the others stays.
#[tokio::test(start_paused = true)]
async fn refused_rows_fail_alone() {
    let backend = Faulty::new(&[]);
    let writer = Writer::start(backend.clone(), Limits::default());
    let streams = ["a", "poison", "a", "b", "a", "poison", "a", "b"];
    let outcomes = outcomes(submit(&writer, &streams)).await;
    let mut position = 0;
    for (name, outcome) in streams.iter().zip(outcomes) {
        if *name == "poison" {
            assert_eq!(outcome, Err(AppendError::Refused { reason: "poison".into() }));
        } else {
            position += 1;
            assert_eq!(outcome, Ok(position));
        }
    }
    writer.close().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_away_appends_wait_a_bounded_time() {
    let backend = Faulty::new(&[]);
    let limits = Limits::default();
    let patience = limits.away_wait;
    let writer = Writer::start(backend.clone(), limits);
    backend.lock().away = true;
    let began = tokio::time::Instant::now();
    let outcome = outcomes(submit(&writer, &["a", "b"])).await;
    assert_eq!(outcome, [Err(AppendError::Unavailable), Err(AppendError::Unavailable)]);
    let waited = began.elapsed();
    assert!(waited >= patience && waited < patience * 2, "{waited:?}");
    // Back within the wait: recorded, though it was away when the append came.
    let pending = submit(&writer, &["c"]);
    tokio::time::sleep(patience / 2).await;
    backend.lock().away = false;
    assert_eq!(outcomes(pending).await, [Ok(1)]);
    writer.close().await;
}

/// A database that can be reached but never commits: a full disk, a lock never given up.
#[tokio::test(start_paused = true)]
async fn commits_that_always_fail_are_given_up_in_time() {
    for fault in [Fault::Before, Fault::CommitLost] {
        let backend = Faulty::new(&[fault; 10_000]);
        let limits = Limits::default();
        let patience = limits.away_wait;
        let writer = Writer::start(backend.clone(), limits);
        let began = tokio::time::Instant::now();
        let outcome = outcomes(submit(&writer, &["a", "b"])).await;
        assert_eq!(outcome, [Err(AppendError::Unavailable), Err(AppendError::Unavailable)]);
        assert!(began.elapsed() < patience * 2, "{fault:?}");
        assert!(backend.lock().tried.len() < 200, "attempts are paced");
        backend.lock().faults.clear();
        assert_eq!(outcomes(submit(&writer, &["c"])).await, [Ok(1)]);
        writer.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn closing_while_the_database_is_away_fails_what_waits() {
    let backend = Faulty::new(&[]);
    let writer = Writer::start(backend.clone(), Limits::default());
    backend.lock().away = true;
    let pending = submit(&writer, &["a"]);
    writer.close().await;
    assert_eq!(outcomes(pending).await, [Err(AppendError::Unavailable)]);
    assert!(backend.lock().closed);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_groups_keep_to_their_limits() {
    let backend = Faulty::new(&[]);
    backend.gate.forget_permits(usize::MAX);
    let limits = Limits {
        queue_requests_max: 5,
        group_requests_max: 2,
        away_wait: Duration::from_secs(1),
        ..Limits::default()
    };
    let writer = Writer::start(backend.clone(), limits);
    let pending = submit(&writer, &["a"; 5]);
    let refused = writer.append(one("a")).map(drop);
    assert_eq!(refused, Err(AppendError::Overloaded));
    let stats = writer.stats();
    assert_eq!((stats.queued_requests, stats.overloaded), (5, 1));
    assert!(stats.queued_bytes > 0);
    backend.gate.add_permits(100);
    assert_eq!(outcomes(pending).await, [1, 2, 3, 4, 5].map(Ok));
    assert_eq!(backend.lock().tried, [2, 2, 1]);
    writer.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_in_bytes() {
    let backend = Faulty::new(&[]);
    let limits = Limits { queue_bytes_max: 1000, ..Limits::default() };
    let writer = Writer::start(backend.clone(), limits);
    let mut large = one("a");
    large.events[0] = NewEvent::json(large.events[0].event_type.clone(), "1".repeat(600));
    let first = writer.append(large.clone()).expect("room in the queue");
    assert_eq!(writer.append(large.clone()).map(drop), Err(AppendError::Overloaded));
    assert_eq!(first.await.map(|appended| appended.position.get()), Ok(1));
    assert_eq!(writer.append(large).expect("room again").await.map(|it| it.position.get()), Ok(2));
    writer.close().await;
}
