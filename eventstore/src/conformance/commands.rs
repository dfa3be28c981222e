//! Commands take effect once: key, result and events stand or fall together.

use std::{collections::HashSet, sync::Arc};

use super::{append, counted, identified, read_all, record, stream, to};
use crate::{
    Append, AppendError, CommandKey, CommandName, EventId, EventStore, Executed, Execution,
    ExpectedRevision, InputDigest, Target,
};

fn name(name: &str) -> CommandName {
    CommandName::new(name).expect("the suite's names are good")
}

fn key(key: &str) -> CommandKey {
    CommandKey::new(key).expect("the suite's keys are good")
}

/// A command named `count` that answers with `result`.
fn command(of: &str, result: &str, append: Option<Append>) -> Execution {
    let input = InputDigest::of(b"{}");
    Execution { name: name("count"), key: key(of), input, result: result.to_owned().into(), append }
}

async fn execute(store: &dyn EventStore, of: Execution) -> Result<Executed, AppendError> {
    store.execute(of)?.await
}

async fn found(store: &dyn EventStore, of: &Execution) -> Option<Executed> {
    store.command_result(&of.name, &of.key).await.expect("a look is answered")
}

/// Whatever it appends or answers the second time, and although the log went on.
pub async fn a_repeated_command_gets_its_first_result(store: Arc<dyn EventStore>) {
    let two = || Some(to("a-1", vec![counted(1), counted(2)]));
    let strict = Append { expected: ExpectedRevision::NoStream, ..to("a-1", vec![counted(9)]) };
    for (of, first_append) in [("with events", two()), ("without", None)] {
        let first = command(of, r#"{"verbatim" :  1.50}"#, first_append);
        assert_eq!(found(&*store, &first).await, None);
        let head = store.head().await.expect("a head").position.get();
        let done = execute(&*store, first.clone()).await.expect("a good command is recorded");
        assert_eq!(done.result, r#"{"verbatim" :  1.50}"#);
        assert!(!done.repeated);
        match (&first.append, done.appended) {
            (Some(_), Some(at)) => assert_eq!(at.position.get(), head + 2),
            (None, None) => {}
            other => panic!("events and their place go together: {other:?}"),
        }
        let after = record(&*store, to("a-1", vec![counted(3)])).await.position;

        let again = Executed { repeated: true, ..done };
        for append in [None, two(), Some(strict.clone()), Some(to("b-1", vec![counted(4)]))] {
            let other = command(of, "\"another result\"", append);
            assert_eq!(execute(&*store, other).await, Ok(again.clone()));
        }
        assert_eq!(found(&*store, &first).await, Some(again));
        assert_eq!(store.head().await.expect("a head").position, after);
    }
    assert_eq!(read_all(&*store, Target::All).await.len(), 4);
}

/// The same key of another name is another command; keys and names are compared byte by byte.
pub async fn commands_are_told_apart_by_name_and_key(store: Arc<dyn EventStore>) {
    let pairs = [
        ("count", "k"),
        ("count", "K"),
        ("count", "k "),
        ("count", "ä"),
        ("count", "a\u{308}"),
        ("Count", "k"),
        ("count-k", "k"),
        ("count", "%"),
    ];
    for (number, (of, with)) in pairs.iter().enumerate() {
        let result = number.to_string().into();
        let input = InputDigest::of(b"{}");
        let one = Execution { name: name(of), key: key(with), input, result, append: None };
        let done = execute(&*store, one).await.expect("recorded");
        assert!(!done.repeated, "{of} {with:?} is new");
    }
    for (number, (of, with)) in pairs.iter().enumerate() {
        let found = store.command_result(&name(of), &key(with)).await.expect("a look is answered");
        assert_eq!(found.expect("recorded").result, number.to_string());
    }
}

/// A key stands for one command with its data: with other data it is a mistake of the client's.
pub async fn a_key_used_again_with_other_data_is_refused(store: Arc<dyn EventStore>) {
    let first = command("k", "1", None);
    let other = |append| Execution { input: InputDigest::of(b"{ }"), ..command("k", "1", append) };
    let pending = [first.clone(), other(None), other(Some(to("a-1", vec![counted(1)])))]
        .map(|one| store.execute(one).expect("room in the queue"));
    let mut answers = Vec::new();
    for pending in pending {
        answers.push(pending.await);
    }
    assert!(answers[0].as_ref().is_ok_and(|done| done.input == first.input), "{answers:?}");
    let reused = AppendError::KeyReused { name: name("count"), key: key("k") };
    assert_eq!(answers[1..], [Err(reused.clone()), Err(reused.clone())]);
    assert_eq!(execute(&*store, other(None)).await, Err(reused));
    assert_eq!(found(&*store, &first).await.map(|done| done.input), Some(first.input));
    assert!(read_all(&*store, Target::All).await.is_empty());
}

/// Neither events nor key: it may be sent again, and then succeeds.
pub async fn a_refused_command_leaves_nothing_behind(store: Arc<dyn EventStore>) {
    let early = Append { expected: ExpectedRevision::Exists, ..to("a-1", vec![counted(2)]) };
    let early = command("early", "1", Some(early));
    for _ in 0..2 {
        let refused = execute(&*store, early.clone()).await;
        assert!(matches!(refused, Err(AppendError::WrongExpectedRevision { .. })), "{refused:?}");
        assert_eq!(found(&*store, &early).await, None);
    }
    record(&*store, to("a-1", vec![counted(1)])).await;
    let done = execute(&*store, early).await.expect("the stream exists now");
    assert_eq!((done.repeated, done.appended.map(|at| at.position.get())), (false, Some(2)));

    let id = EventId::generate();
    record(&*store, to("a-2", vec![identified(id)])).await;
    let reuses = command("reuses", "1", Some(to("a-3", vec![identified(id)])));
    assert_eq!(execute(&*store, reuses.clone()).await, Err(AppendError::IdReused { id }));
    assert_eq!(found(&*store, &reuses).await, None);
}

/// Good and bad, commands and appends, committed together: each is told its own truth.
pub async fn one_command_never_fails_another(store: Arc<dyn EventStore>) {
    record(&*store, to("a-1", vec![counted(0)])).await;
    let refused = |n: u64| {
        let expected = ExpectedRevision::NoStream;
        let append = Append { expected, ..to("a-1", vec![counted(n)]) };
        command(&format!("bad-{n}"), "0", Some(append))
    };
    let good = |n: u64| {
        let append = (n.is_multiple_of(2)).then(|| to("a-1", vec![counted(n)]));
        command(&format!("good-{n}"), &n.to_string(), append)
    };
    let mut pending = Vec::new();
    for n in 0..40 {
        let bad = store.execute(refused(n)).expect("room in the queue");
        let good = store.execute(good(n)).expect("room in the queue");
        let append =
            store.append(to(&format!("b-{n}"), vec![counted(n)])).expect("room in the queue");
        pending.push((n, bad, good, append));
    }
    for (n, bad, good, append) in pending {
        assert!(matches!(bad.await, Err(AppendError::WrongExpectedRevision { .. })));
        let done = good.await.expect("a good command is recorded");
        assert_eq!((done.result.as_ref(), done.repeated), (n.to_string().as_bytes(), false));
        append.await.expect("an append is recorded");
    }
    assert_eq!(read_all(&*store, Target::All).await.len(), 1 + 20 + 40);
    for n in 0..40 {
        assert_eq!(found(&*store, &refused(n)).await, None);
        assert!(found(&*store, &good(n)).await.is_some());
    }
}

/// The same command many times at once is recorded once, and all hear the same.
pub async fn repeated_commands_at_the_same_time_share_one_result(store: Arc<dyn EventStore>) {
    for round in 0..10 {
        let of = format!("round-{round}");
        let pending: Vec<_> = (0..20)
            .map(|n| {
                let append =
                    (round % 2 == 0).then(|| to(&format!("a-{round}-{n}"), vec![counted(n)]));
                store.execute(command(&of, &n.to_string(), append)).expect("room in the queue")
            })
            .collect();
        let mut results = HashSet::new();
        let mut first = 0;
        for pending in pending {
            let done = pending.await.expect("a repeat gets the first result");
            first += usize::from(!done.repeated);
            results.insert((done.result, done.appended.map(|at| at.position)));
        }
        assert_eq!((first, results.len()), (1, 1), "one is first, and all hear of it");
    }
    assert_eq!(read_all(&*store, Target::All).await.len(), 5);
}

/// An append before it and one after it, by the same caller, are recorded before it and after it.
pub async fn commands_keep_their_place_among_appends(store: Arc<dyn EventStore>) {
    let exactly = |revision, n| Append {
        expected: ExpectedRevision::Exact(crate::Revision::new(revision)),
        ..to("a-1", vec![counted(n)])
    };
    let mut pending = Vec::new();
    record(&*store, to("a-1", vec![counted(0)])).await;
    for n in (0..60).step_by(2) {
        let append = store.append(exactly(n, n)).expect("room in the queue");
        let one = command(&n.to_string(), "1", Some(exactly(n + 1, n)));
        pending.push((append, store.execute(one).expect("room in the queue")));
    }
    for (append, command) in pending {
        append.await.expect("meets its revision");
        command.await.expect("meets its revision");
    }
}

/// Events that were recorded before, outside any command, are not recorded again.
pub async fn a_command_takes_over_events_recorded_before(store: Arc<dyn EventStore>) {
    let event = identified(EventId::generate());
    let first = record(&*store, to("a-1", vec![event.clone()])).await;
    let done = execute(&*store, command("late", "1", Some(to("a-1", vec![event]))))
        .await
        .expect("recorded");
    assert_eq!((done.appended, done.repeated), (Some(first), false));
    assert_eq!(found(&*store, &command("late", "", None)).await.expect("recorded").result, "1");
    assert_eq!(read_all(&*store, Target::All).await.len(), 1);
}

/// At once, without asking the database.
pub async fn results_that_cannot_be_kept_are_refused(store: Arc<dyn EventStore>) {
    let max = crate::Limits::default().result_bytes_max;
    let string = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    for (result, code) in [
        (string(max + 1), "too_large"),
        ("{\"open\": ".to_owned(), "invalid_json"),
        (String::new(), "invalid_json"),
        ("[".repeat(65) + &"]".repeat(65), "invalid_json"),
    ] {
        let one = command("bad", &result, Some(to("a-1", vec![counted(1)])));
        let error = store.execute(one).map(drop).expect_err("cannot be kept");
        assert_eq!(error.code(), code, "{error}");
    }
    let empty = Append { events: Vec::new(), ..to("a-1", vec![]) };
    let error = store.execute(command("bad", "1", Some(empty))).map(drop).expect_err("no events");
    assert_eq!(error, AppendError::NoEvents);
    assert_eq!(found(&*store, &command("bad", "", None)).await, None);

    let largest = command("good", &string(max), None);
    let done = execute(&*store, largest.clone()).await.expect("just allowed");
    assert_eq!(done.result, largest.result);
    assert_eq!(found(&*store, &largest).await.expect("recorded").result, largest.result);
}

/// What was queued before is recorded; nothing is taken after.
pub async fn closing_finishes_queued_commands(store: Arc<dyn EventStore>) {
    let pending: Vec<_> = (0..50)
        .map(|n| store.execute(command(&n.to_string(), "1", None)).expect("room in the queue"))
        .collect();
    store.close().await;
    for pending in pending {
        assert!(pending.await.is_ok());
    }
    let late = store.execute(command("late", "1", None)).map(drop);
    assert_eq!(late, Err(AppendError::Closed));
    let late = append(&*store, to(stream("a-1").as_str(), vec![counted(1)])).await;
    assert_eq!(late, Err(AppendError::Closed));
}
