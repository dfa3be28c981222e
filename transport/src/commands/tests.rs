//! The runner keeps its promises whatever handlers do: one effect a key, bounded, each failure
//! with its code, nothing held afterwards.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};
use tidewire_eventstore::{
    Append, CommandKey, CommandName, EventStore, EventType, ExpectedRevision, GlobalPosition,
    MemoryStore, NewEvent, Read, StreamName, Target,
};
use tidewire_protocol::CommandRequest;
use tokio::sync::{Notify, Semaphore};

use super::{metrics::CommandMetrics, registry::Registry, *};
use crate::Config;

/// No condition may take longer than this to come about.
const DEADLINE: Duration = Duration::from_secs(20);

type Answer = Result<(Value, Option<u64>), Refused>;

/// What a client is told of a failure.
#[derive(Debug, PartialEq)]
struct Refused {
    code: String,
    retryable: bool,
    details: Value,
}

/// Commands over a log in memory.
struct Scene {
    commands: Arc<Commands>,
    store: Arc<MemoryStore>,
    metrics: Arc<CommandMetrics>,
}

impl Scene {
    fn new(register: impl FnOnce(&mut Registry)) -> Self {
        Self::with(register, |_| {})
    }

    fn with(register: impl FnOnce(&mut Registry), change: impl FnOnce(&mut Config)) -> Self {
        let mut registry = Registry::default();
        register(&mut registry);
        registry.check().expect("good names");
        let mut config = Config::default();
        change(&mut config);
        let store = Arc::new(MemoryStore::new());
        let metrics = Arc::new(CommandMetrics::default());
        let commands = Commands::new(
            registry,
            &config,
            store.clone(),
            tokio::runtime::Handle::current(),
            Arc::new(Semaphore::new(4)),
            metrics.clone(),
        );
        Self { commands: Arc::new(commands.expect("threads")), store, metrics }
    }

    async fn send(&self, name: &str, data: Value, key: Option<&str>) -> Answer {
        send(&self.commands, request(name, &data.to_string(), key)).await
    }

    async fn events(&self) -> usize {
        let read = Read::after(Target::All, GlobalPosition::START, 5000);
        self.store.read(read).await.expect("a page").events.len()
    }

    fn counted(&self, outcome: &str) -> u64 {
        self.metrics.outcomes().find(|(name, _)| *name == outcome).expect("an outcome").1
    }

    /// Nothing is held once everything has ended.
    async fn assert_idle(&self) {
        eventually("everything is let go", || {
            self.commands.keys_held() == 0
                && self.metrics.running.load(SeqCst) == 0
                && self.metrics.waiting.load(SeqCst) == 0
        })
        .await;
    }
}

async fn send(commands: &Commands, request: CommandRequest) -> Answer {
    let answer = tokio::time::timeout(DEADLINE, commands.execute(request, Caller::Http)).await;
    match answer.expect("an answer in time") {
        Ok(done) => {
            let data = serde_json::from_slice(&done.data).expect("JSON");
            Ok((data, done.position.map(GlobalPosition::get)))
        }
        Err(error) => Err(Refused {
            code: error.code.into_owned(),
            retryable: error.retryable,
            details: error.details.map_or(Value::Null, |details| *details),
        }),
    }
}

fn request(name: &str, data: &str, key: Option<&str>) -> CommandRequest {
    CommandRequest {
        name: CommandName::new(name).expect("a good name"),
        data: data.to_owned().into(),
        key: key.map(|key| CommandKey::new(key).expect("a good key")),
    }
}

fn refused(code: &str, retryable: bool, details: Value) -> Answer {
    Err(Refused { code: code.to_owned(), retryable, details })
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn stream(name: &str) -> StreamName {
    StreamName::new(name).expect("a good name")
}

fn event() -> NewEvent {
    NewEvent::json(EventType::new("Counted").expect("a good name"), "1")
}

/// Appends one event to `a-1` and answers with how often it has run in all.
fn counting(runs: &Arc<AtomicU32>) -> impl CommandHandler<Value, u32> + use<> {
    let runs = runs.clone();
    move |_: Context, _: Value| {
        let runs = runs.clone();
        async move {
            let run = runs.fetch_add(1, SeqCst) + 1;
            tokio::task::yield_now().await;
            Ok(Decision::answer(run).append(stream("a-1"), ExpectedRevision::Any, [event()]))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_one_effect_and_one_answer_however_many_send_it() {
    let runs = Arc::default();
    let scene = Scene::new(|registry| registry.add("count", counting(&runs)));
    let sent: Vec<_> = (0..20)
        .map(|_| {
            let commands = scene.commands.clone();
            tokio::spawn(async move { send(&commands, request("count", "{}", Some("k"))).await })
        })
        .collect();
    for answer in sent {
        assert_eq!(answer.await.expect("no panic"), Ok((json!(1), Some(1))));
    }
    assert_eq!((runs.load(SeqCst), scene.events().await), (1, 1));
    assert_eq!((scene.counted("executed"), scene.counted("repeated")), (1, 19));
    scene.assert_idle().await;
}

#[tokio::test]
async fn without_a_key_every_command_takes_effect() {
    let runs = Arc::default();
    let scene = Scene::new(|registry| registry.add("count", counting(&runs)));
    for n in 1..=3 {
        assert_eq!(scene.send("count", json!({}), None).await, Ok((json!(n), Some(n))));
    }
}

#[tokio::test]
async fn data_under_a_key_may_be_written_in_another_way_but_not_be_other_data() {
    let runs = Arc::default();
    let scene = Scene::new(|registry| registry.add("count", counting(&runs)));
    let send = async |data: &str| send(&scene.commands, request("count", data, Some("k"))).await;
    let first = Ok((json!(1), Some(1)));
    assert_eq!(send(r#"{"a": {"x": 1, "y": [2, 3]}, "b": "ü"}"#).await, first);
    assert_eq!(send(r#"{"b":"\u00fc","a":{"y":[2,3],"x":1}}"#).await, first);
    let details = json!({ "name": "count", "key": "k" });
    for other in [r#"{"a":{"x":1,"y":[3,2]},"b":"ü"}"#, "{}", "null"] {
        assert_eq!(send(other).await, refused("key_reused", false, details.clone()), "{other}");
    }
    assert_eq!((runs.load(SeqCst), scene.counted("conflict")), (1, 3));
}

#[derive(Deserialize)]
struct Add {
    amount: u32,
}

async fn add(_: Context, add: Add) -> Result<Decision<u32>, CommandError> {
    match add.amount {
        0 => Err(CommandError::new("$nothing", "nothing to add").with_details(json!({ "min": 1 }))),
        1 => Err(CommandError::new("later", "not now").retryable()),
        amount => Ok(Decision::answer(amount)),
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_told_with_its_code() {
    let scene = Scene::new(|registry| registry.add("add", add));
    let details = json!({ "code": "nothing", "details": { "min": 1 } });
    for _ in 0..2 {
        let answer = scene.send("add", json!({ "amount": 0 }), Some("k")).await;
        assert_eq!(answer, refused("command_failed", false, details.clone()));
    }
    let answer = scene.send("add", json!({ "amount": 1 }), None).await;
    assert_eq!(answer, refused("command_failed", true, json!({ "code": "later" })));
    // A refusal uses no key up, not even for other data.
    assert_eq!(scene.send("add", json!({ "amount": 2 }), Some("k")).await, Ok((json!(2), None)));

    let answer = scene.send("subtract", json!({}), None).await;
    assert_eq!(answer, refused("unknown_command", false, Value::Null));
    for data in [json!({}), json!({ "amount": -1 }), json!([]), json!(null)] {
        let Err(error) = scene.send("add", data.clone(), None).await else { panic!("{data}") };
        assert_eq!((&*error.code, &error.details["field"]), ("invalid_field", &json!("data")));
        assert!(error.details["reason"].is_string(), "{error:?}");
    }
    for (outcome, count) in [("refused", 3), ("unknown", 1), ("invalid", 4), ("executed", 1)] {
        assert_eq!(scene.counted(outcome), count, "{outcome}");
    }
}

#[tokio::test]
async fn a_panic_and_a_decision_that_cannot_be_recorded_end_their_command_alone() {
    let scene = Scene::with(
        |registry| {
            registry.add("panic", async |_: Context, at: String| match &*at {
                "" => panic!("as told"),
                _ => Ok(Decision::answer(at)),
            });
            registry.add("large", async |_: Context, bytes: usize| {
                Ok(Decision::answer("x".repeat(bytes)))
            });
            registry.add("empty", async |_: Context, (): ()| {
                Ok(Decision::answer(1).append(stream("a-1"), ExpectedRevision::Any, []))
            });
        },
        |config| config.command_answer_bytes_max = 100,
    );
    for key in [None, Some("k")] {
        let answer = scene.send("panic", json!(""), key).await;
        assert_eq!(answer, refused("command_failed", false, json!({ "code": "$panicked" })));
        let answer = scene.send("large", json!(99), key).await;
        assert_eq!(
            answer,
            refused("command_failed", false, json!({ "code": "$answer_too_large" }))
        );
        let answer = scene.send("empty", json!(null), key).await;
        let details = json!({ "code": "$invalid_decision", "reason": "no_events" });
        assert_eq!(answer, refused("command_failed", false, details));
    }
    assert_eq!(scene.counted("failed"), 6);
    assert_eq!(scene.send("panic", json!("no"), Some("k")).await, Ok((json!("no"), None)));
    assert!(scene.send("large", json!(98), Some("k")).await.is_ok(), "just allowed");
    scene.assert_idle().await;
}

#[tokio::test]
async fn a_handler_that_waits_too_long_is_dropped_and_its_key_is_free() {
    let patient = Arc::new(AtomicUsize::new(0));
    let scene = Scene::with(
        |registry| {
            let patient = patient.clone();
            registry.add("wait", move |_: Context, (): ()| {
                let attempt = patient.fetch_add(1, SeqCst);
                async move {
                    if attempt == 0 {
                        pending::<()>().await;
                    }
                    Ok(Decision::answer(attempt))
                }
            });
        },
        |config| config.command_timeout = Duration::from_millis(50),
    );
    let answer = scene.send("wait", json!(null), Some("k")).await;
    assert_eq!(answer, refused("command_failed", true, json!({ "code": "$timed_out" })));
    assert_eq!(scene.send("wait", json!(null), Some("k")).await, Ok((json!(1), None)));
    scene.assert_idle().await;
}

/// A handler that blocks its thread cannot be stopped. Its client is told in time all the same,
/// and it counts among those that run for as long as it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_keeps_its_place_until_it_ends() {
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let scene = Scene::with(
        |registry| {
            registry.add("block", move |_: Context, (): ()| {
                let blocked = blocked.clone();
                async move {
                    let _ = blocked.lock().expect("no panic").recv();
                    Ok(Decision::answer(()))
                }
            });
            registry.add("add", add);
        },
        |config| {
            config.commands_running_max = 1;
            config.commands_queue_max = 1;
            config.command_timeout = Duration::from_millis(50);
        },
    );
    let answer = scene.send("block", json!(null), None).await;
    assert_eq!(answer, refused("command_failed", true, json!({ "code": "$timed_out" })));

    // One waits for its place; the others find no room to wait in.
    let five = || request("add", r#"{"amount": 5}"#, None);
    let first = tokio::spawn({
        let (commands, five) = (scene.commands.clone(), five());
        async move { send(&commands, five).await }
    });
    eventually("it waits", || scene.metrics.waiting.load(SeqCst) == 1).await;
    let second = tokio::spawn({
        let (commands, five) = (scene.commands.clone(), five());
        async move { send(&commands, five).await }
    });
    eventually("it waits too", || scene.metrics.waiting.load(SeqCst) == 2).await;
    let answer = send(&scene.commands, five()).await;
    assert_eq!(answer, refused("overloaded", true, Value::Null));
    drop(release);
    for waiting in [first, second] {
        assert_eq!(waiting.await.expect("no panic"), Ok((json!(5), None)));
    }
    assert_eq!(scene.counted("overloaded"), 1);
    scene.assert_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_run_at_once_than_may() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(0));
    let scene = Scene::with(
        |registry| {
            let (running, most, gate) = (running.clone(), most.clone(), gate.clone());
            registry.add("count", move |_: Context, (): ()| {
                let (running, most, gate) = (running.clone(), most.clone(), gate.clone());
                async move {
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    gate.acquire().await.expect("never closed").forget();
                    running.fetch_sub(1, SeqCst);
                    Ok(Decision::answer(()))
                }
            });
        },
        |config| config.commands_running_max = 3,
    );
    let sent: Vec<_> = (0..40)
        .map(|_| {
            let commands = scene.commands.clone();
            tokio::spawn(async move { send(&commands, request("count", "null", None)).await })
        })
        .collect();
    eventually("as many run as may", || running.load(SeqCst) == 3).await;
    eventually("the others wait", || scene.metrics.waiting.load(SeqCst) == 37).await;
    gate.add_permits(40);
    for answer in sent {
        assert!(answer.await.expect("no panic").is_ok());
    }
    assert_eq!(most.load(SeqCst), 3);
}

/// A rival appends between the handler's look at the stream and its decision, `rivals` times.
async fn rivalled(rivals: u32) -> (Scene, Answer) {
    let slot = Arc::new(Mutex::new(None::<Arc<MemoryStore>>));
    let scene = Scene::new(|registry| {
        let slot = slot.clone();
        registry.add("place", move |context: Context, (): ()| {
            let store =
                slot.lock().expect("no panic").clone().expect("set before anything is sent");
            async move {
                let found = context.stream(&stream("a-1")).await?;
                if context.run() <= rivals {
                    let append = Append {
                        stream: stream("a-1"),
                        expected: ExpectedRevision::Any,
                        events: vec![event()],
                    };
                    store.append(append).expect("room").await.expect("recorded");
                }
                Ok(Decision::answer((found.events.len(), context.run())).append(
                    stream("a-1"),
                    found.unchanged(),
                    [event()],
                ))
            }
        });
    });
    *slot.lock().expect("no panic") = Some(scene.store.clone());
    let answer = scene.send("place", json!(null), Some("k")).await;
    (scene, answer)
}

#[tokio::test]
async fn a_handler_is_run_again_when_its_stream_has_moved_on() {
    for rivals in 0..=3 {
        let (scene, answer) = rivalled(rivals).await;
        let position = u64::from(rivals) + 1;
        assert_eq!(answer, Ok((json!([rivals, rivals + 1]), Some(position))));
        assert_eq!(scene.metrics.reruns.load(SeqCst), u64::from(rivals));
    }
    let (scene, answer) = rivalled(99).await;
    let Err(error) = answer else { panic!("{answer:?}") };
    assert_eq!(error.code, "wrong_expected_revision");
    assert_eq!((scene.events().await, scene.counted("conflict")), (4, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_takes_its_course_when_nobody_waits_for_it_any_more() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let scene = Scene::new(|registry| {
        let (begun, go_on) = (begun.clone(), go_on.clone());
        registry.add("slow", move |_: Context, (): ()| {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            async move {
                begun.notify_one();
                go_on.notified().await;
                Ok(Decision::answer("done").append(stream("a-1"), ExpectedRevision::Any, [event()]))
            }
        });
    });
    let abandoned = tokio::spawn({
        let commands = scene.commands.clone();
        async move { send(&commands, request("slow", "null", Some("k"))).await }
    });
    begun.notified().await;
    abandoned.abort();
    go_on.notify_one();
    assert_eq!(scene.send("slow", json!(null), Some("k")).await, Ok((json!("done"), Some(1))));
    assert_eq!(scene.events().await, 1);
    scene.assert_idle().await;
}

#[tokio::test]
async fn a_handler_reads_no_more_of_a_stream_than_it_may() {
    let scene = Scene::new(|registry| {
        registry.add("measure", async |context: Context, of: String| {
            Ok(Decision::answer(context.stream(&stream(&of)).await?.events.len()))
        });
    });
    for (name, thousands) in [("short-1", 10), ("long-1", 11)] {
        for _ in 0..thousands {
            let append = Append {
                stream: stream(name),
                expected: ExpectedRevision::Any,
                events: vec![event(); 1000],
            };
            scene.store.append(append).expect("room").await.expect("recorded");
        }
    }
    let answer = scene.send("measure", json!("short-1"), None).await;
    assert_eq!(answer, Ok((json!(10_000), None)));
    let answer = scene.send("measure", json!("long-1"), None).await;
    assert_eq!(answer, refused("command_failed", false, json!({ "code": "stream_too_long" })));
    let answer = scene.send("measure", json!("none-1"), None).await;
    assert_eq!(answer, Ok((json!(0), None)));
}

#[tokio::test]
async fn a_log_that_cannot_be_reached_is_told_as_such() {
    let runs = Arc::default();
    let scene = Scene::new(|registry| registry.add("count", counting(&runs)));
    scene.store.close().await;
    for key in [None, Some("k")] {
        let answer = scene.send("count", json!({}), key).await;
        assert_eq!(answer, refused("closing", true, Value::Null));
    }
    assert_eq!(scene.counted("unavailable"), 2);
}

#[test]
fn a_name_is_registered_once() {
    for (names, wrong) in [
        (&["a", "b"][..], None),
        (&["a", "a"], Some("a")),
        (&["a", ""], Some("")),
        (&["$a"], Some("$a")),
    ] {
        let mut registry = Registry::default();
        for name in names {
            registry.add(name, add);
        }
        assert_eq!(registry.check().err().map(|(name, _)| name).as_deref(), wrong);
    }
}
