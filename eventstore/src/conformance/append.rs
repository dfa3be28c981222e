//! Appending: expectations, atomicity, answers.

use std::sync::Arc;

use super::{append, counted, event_type, page, read_all, record, stream, to};
use crate::{
    Append, AppendError, EventStore, ExpectedRevision, NewEvent, Payload, Read, ReadStart,
    Revision, Target, Timestamp,
};

/// Positions rise by one over the whole log, revisions within each stream.
pub async fn positions_and_revisions_rise_by_one(store: Arc<dyn EventStore>) {
    let mut position = 0;
    for (round, size) in [1, 3, 2, 1].into_iter().enumerate() {
        for name in ["a-1", "a-2", "b-1"] {
            let events = (0..size).map(counted).collect();
            let appended = record(&*store, to(name, events)).await;
            position += size;
            let revision = [0, 3, 5, 6][round];
            assert_eq!((appended.position.get(), appended.revision.get()), (position, revision));
        }
    }
    let events = read_all(&*store, Target::All).await;
    super::assert_gapless(&events, 1);
    for name in ["a-1", "a-2", "b-1"] {
        let of_stream: Vec<_> =
            events.iter().filter(|event| event.stream.as_str() == name).collect();
        for (event, revision) in of_stream.iter().zip(0..) {
            assert_eq!(event.revision.get(), revision);
        }
        assert_eq!(of_stream.len(), 7);
    }
    assert_eq!(store.head().await.expect("a head").position.get(), position);
}

/// Every expectation against an empty stream and one of two events.
pub async fn each_expectation_is_met_or_refused(store: Arc<dyn EventStore>) {
    use ExpectedRevision::{Any, Exact, Exists, NoStream};
    let [first, second, third] = [0, 1, 2].map(Revision::new);
    for (number, (expected, of_new, of_two)) in [
        (Any, true, true),
        (NoStream, true, false),
        (Exists, false, true),
        (Exact(first), false, false),
        (Exact(second), false, true),
        (Exact(third), false, false),
    ]
    .into_iter()
    .enumerate()
    {
        for (events_before, met) in [(0, of_new), (2, of_two)] {
            let name = format!("s-{number}-{events_before}");
            for number in 0..events_before {
                record(&*store, to(&name, vec![counted(number)])).await;
            }
            let outcome = append(&*store, Append { expected, ..to(&name, vec![counted(9)]) }).await;
            match outcome {
                Ok(appended) => {
                    assert!(met, "{expected} must not be met by {events_before} events");
                    assert_eq!(appended.revision.get(), events_before);
                }
                Err(error) => {
                    assert!(!met, "{expected} must be met by {events_before} events");
                    assert_eq!(error.code(), "wrong_expected_revision");
                }
            }
        }
    }
}

/// The error has the stream, the expectation and the stream's last revision.
pub async fn a_conflict_tells_what_was_expected_and_what_is(store: Arc<dyn EventStore>) {
    let expected = ExpectedRevision::Exact(Revision::new(7));
    let conflict = |actual| {
        Err(AppendError::WrongExpectedRevision { stream: stream("a-1"), expected, actual })
    };
    let wrong = Append { expected, ..to("a-1", vec![counted(1)]) };
    assert_eq!(append(&*store, wrong.clone()).await, conflict(None));
    record(&*store, to("a-1", vec![counted(1), counted(2)])).await;
    assert_eq!(append(&*store, wrong).await, conflict(Some(Revision::new(1))));
}

/// Neither a position nor a revision is used up, and no event is readable.
pub async fn a_refused_append_leaves_nothing_behind(store: Arc<dyn EventStore>) {
    record(&*store, to("a-1", vec![counted(1)])).await;
    let wrong =
        Append { expected: ExpectedRevision::NoStream, ..to("a-1", vec![counted(2), counted(3)]) };
    append(&*store, wrong).await.expect_err("the stream exists");
    let next = record(&*store, to("a-1", vec![counted(4)])).await;
    assert_eq!((next.position.get(), next.revision.get()), (2, 1));
    assert_eq!(read_all(&*store, Target::All).await.len(), 2);
}

/// Good and bad appends submitted together: the good ones are recorded, in order.
pub async fn one_append_never_fails_another(store: Arc<dyn EventStore>) {
    record(&*store, to("a-1", vec![counted(0)])).await;
    let submit = |name, expected| {
        store.append(Append { expected, ..to(name, vec![counted(1)]) }).expect("room in the queue")
    };
    let exact = |revision| ExpectedRevision::Exact(Revision::new(revision));
    let pending = [
        submit("a-1", exact(0)),
        submit("a-1", exact(0)),
        submit("b-1", ExpectedRevision::Exists),
        submit("a-1", exact(1)),
        submit("b-1", ExpectedRevision::NoStream),
        submit("b-1", ExpectedRevision::Exists),
    ];
    let mut revisions = Vec::new();
    for pending in pending {
        revisions.push(pending.await.ok().map(|appended| appended.revision.get()));
    }
    assert_eq!(revisions, [Some(1), None, None, Some(2), Some(0), Some(1)]);
}

/// Whoever was told that an append is recorded finds it, with everything before it.
pub async fn the_answer_comes_after_the_event_is_readable(store: Arc<dyn EventStore>) {
    for number in 0..20 {
        let appended = record(&*store, to("a-1", vec![counted(number)])).await;
        let read = Read {
            target: Target::Stream(stream("a-1")),
            types: Vec::new(),
            direction: crate::Direction::Backwards,
            from: ReadStart::End,
            until: None,
            limit: 1,
        };
        let page = page(&*store, read).await;
        assert_eq!(page.events[0].position, appended.position);
        assert!(page.head >= appended.position);
        assert!(store.head().await.expect("a head").position >= appended.position);
    }
}

/// The time is the server's, between the request and its answer.
pub async fn recorded_at_is_about_now(store: Arc<dyn EventStore>) {
    let before = Timestamp::now();
    record(&*store, to("a-1", vec![counted(1)])).await;
    let after = Timestamp::now();
    let events = read_all(&*store, Target::All).await;
    assert!((before..=after).contains(&events[0].recorded_at));
}

/// The counters for metrics move with the appends.
pub async fn the_stats_count_what_was_done(store: Arc<dyn EventStore>) {
    for number in 0..3 {
        record(&*store, to("a-1", vec![counted(number), counted(number)])).await;
    }
    let stats = store.stats();
    assert_eq!((stats.groups, stats.events, stats.appends), (3, 6, 3));
    assert_eq!((stats.queued_requests, stats.queued_bytes), (0, 0));
    assert_eq!(stats.group_events.count, 3);
    assert_eq!(stats.append_latency_micros.count, 3);
}

/// After closing, an append is refused at once or by its answer.
pub async fn a_closed_store_takes_no_appends(store: Arc<dyn EventStore>) {
    record(&*store, to("a-1", vec![counted(1)])).await;
    store.close().await;
    assert_eq!(append(&*store, to("a-1", vec![counted(2)])).await, Err(AppendError::Closed));
    store.close().await;
}

/// What was queued before closing is recorded and answered.
pub async fn closing_finishes_what_is_queued(store: Arc<dyn EventStore>) {
    let event = NewEvent {
        payload: Payload::Binary { content_type: "x/y".into(), data: vec![7; 1000].into() },
        ..NewEvent::json(event_type("Blob"), "")
    };
    let pending: Vec<_> = (0..200)
        .map(|_| store.append(to("a-1", vec![event.clone()])).expect("room in the queue"))
        .collect();
    store.close().await;
    for (pending, position) in pending.into_iter().zip(1..) {
        let appended = pending.await.expect("a queued append is recorded");
        assert_eq!(appended.position.get(), position);
    }
}
