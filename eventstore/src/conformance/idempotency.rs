//! Appends with client-made ids take effect once.

use std::{collections::HashSet, sync::Arc};

use super::{append, counted, identified, read_all, record, to};
use crate::{Append, AppendError, EventId, EventStore, ExpectedRevision, Target};

/// Whatever it expects the second time, and although the log went on.
pub async fn a_repeated_append_gets_its_first_answer(store: Arc<dyn EventStore>) {
    let ids = [EventId::generate(), EventId::generate()];
    let twice = |expected| Append { expected, ..to("a-1", ids.map(identified).to_vec()) };
    let first = record(&*store, twice(ExpectedRevision::NoStream)).await;
    record(&*store, to("a-1", vec![counted(1)])).await;
    for expected in
        [ExpectedRevision::NoStream, ExpectedRevision::Any, ExpectedRevision::Exact(first.revision)]
    {
        assert_eq!(append(&*store, twice(expected)).await, Ok(first));
    }
    let events = read_all(&*store, Target::All).await;
    assert_eq!(events.len(), 3);
    assert_eq!([events[0].id, events[1].id], ids);
}

/// On another stream, in another order, number or company: `id_reused`, and nothing is recorded.
pub async fn ids_used_in_another_way_are_refused(store: Arc<dyn EventStore>) {
    let [a, b, c] = [(); 3].map(|()| EventId::generate());
    record(&*store, to("a-1", vec![identified(a), identified(b)])).await;
    for (name, ids) in [
        ("a-2", vec![a, b]),
        ("a-1", vec![b, a]),
        ("a-1", vec![a]),
        ("a-1", vec![b]),
        ("a-1", vec![a, b, c]),
        ("a-1", vec![a, c]),
        ("a-1", vec![c, b]),
        ("a-3", vec![c, c]),
    ] {
        let events = ids.iter().copied().map(identified).collect();
        let error = append(&*store, to(name, events)).await.expect_err("ids used otherwise");
        assert!(
            matches!(error, AppendError::IdReused { id } if ids.contains(&id)),
            "{name} {ids:?}: {error}"
        );
    }
    assert_eq!(read_all(&*store, Target::All).await.len(), 2);
    record(&*store, to("a-1", vec![identified(c)])).await;
}

/// Only what was recorded counts: a refused append's ids are as good as new.
pub async fn an_append_that_was_refused_may_be_sent_again(store: Arc<dyn EventStore>) {
    let id = EventId::generate();
    let early = Append { expected: ExpectedRevision::Exists, ..to("a-1", vec![identified(id)]) };
    append(&*store, early.clone()).await.expect_err("no such stream yet");
    record(&*store, to("a-1", vec![counted(1)])).await;
    assert_eq!(record(&*store, early).await.position.get(), 2);
}

/// The same append many times at once is recorded once, and all hear the same.
pub async fn repeats_at_the_same_time_share_one_result(store: Arc<dyn EventStore>) {
    for round in 0..10 {
        let once = Append {
            expected: ExpectedRevision::NoStream,
            ..to(&format!("a-{round}"), vec![identified(EventId::generate())])
        };
        let pending: Vec<_> =
            (0..20).map(|_| store.append(once.clone()).expect("room in the queue")).collect();
        for pending in pending {
            let appended = pending.await.expect("a repeat gets the first answer");
            assert_eq!((appended.position.get(), appended.revision.get()), (round + 1, 0));
        }
    }
    assert_eq!(read_all(&*store, Target::All).await.len(), 10);
}

/// Events without an id are given one each.
pub async fn server_made_ids_are_unique(store: Arc<dyn EventStore>) {
    record(&*store, to("a-1", (0..500).map(counted).collect())).await;
    let ids: HashSet<_> =
        read_all(&*store, Target::All).await.into_iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), 500);
}
