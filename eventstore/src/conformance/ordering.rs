//! The one promise: positions are gapless and their order is the order of commits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{append, assert_gapless, counted, page, read_all, stream, to};
use crate::{Append, Commit, EventStore, ExpectedRevision, GlobalPosition, Read, Revision, Target};

/// What is submitted later is recorded later, waited for or not.
pub async fn one_callers_appends_keep_their_order(store: Arc<dyn EventStore>) {
    let pending: Vec<_> = (0..1000)
        .map(|number| {
            let name = if number % 3 == 0 { "a-1" } else { "b-1" };
            store.append(to(name, vec![counted(number)])).expect("room in the queue")
        })
        .collect();
    for (pending, position) in pending.into_iter().zip(1..) {
        assert_eq!(pending.await.expect("recorded").position.get(), position);
    }
}

/// Many tasks, some appends refused: no hole, no double, every answer true.
pub async fn concurrent_appends_leave_no_hole(store: Arc<dyn EventStore>) {
    let tasks: Vec<_> = (0..8_u64)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for number in 0..50 {
                    let name = format!("s-{}", (task + number) % 5);
                    let mut to_append = to(&name, (0..=number % 3).map(counted).collect());
                    if number % 7 == 0 {
                        to_append.expected = ExpectedRevision::Exact(Revision::new(number));
                    }
                    if let Ok(appended) = append(&*store, to_append).await {
                        answers.push((name, appended));
                    }
                }
                answers
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.extend(task.await.expect("no task panics"));
    }
    let events = read_all(&*store, Target::All).await;
    assert_gapless(&events, 1);
    assert_eq!(events.len() as u64, store.head().await.expect("a head").position.get());
    for (name, appended) in &answers {
        let index = usize::try_from(appended.position.get()).expect("fits") - 1;
        assert_eq!(events[index].stream.as_str(), name);
        assert_eq!(events[index].revision, appended.revision);
    }
    for number in 0..5 {
        let events = read_all(&*store, Target::Stream(stream(&format!("s-{number}")))).await;
        for (event, revision) in events.iter().zip(0..) {
            assert_eq!(event.revision.get(), revision);
        }
    }
}

/// While others append, each page goes on exactly after the one before.
pub async fn readers_never_see_a_hole(store: Arc<dyn EventStore>) {
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            tokio::spawn(async move {
                let mut last = GlobalPosition::START;
                loop {
                    let finished = done.load(Ordering::Acquire);
                    let page = page(&*store, Read::after(Target::All, last, 7)).await;
                    assert_gapless(&page.events, last.get() + 1);
                    if let Some(event) = page.events.last() {
                        assert!(event.position <= page.head);
                        last = event.position;
                    }
                    assert!(page.more || last == page.head, "an uncut page reaches its head");
                    if finished && !page.more {
                        return last;
                    }
                    // A store that never waits would keep the writers from running.
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let writers: Vec<_> = (0..4)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 0..50 {
                    let name = format!("s-{task}");
                    super::record(&*store, to(&name, vec![counted(number); 3])).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no writer panics");
    }
    done.store(true, Ordering::Release);
    for reader in readers {
        assert_eq!(reader.await.expect("no reader panics").get(), 600);
    }
}

/// Optimistic writers racing for each revision of one stream: one wins each.
pub async fn only_one_of_many_rivals_wins_a_revision(store: Arc<dyn EventStore>) {
    super::record(&*store, to("a-1", vec![counted(0)])).await;
    let rivals: Vec<_> = (0..6)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut wins = Vec::new();
                for revision in 0..30 {
                    let expected = ExpectedRevision::Exact(Revision::new(revision));
                    let bid = Append { expected, ..to("a-1", vec![counted(revision)]) };
                    if append(&*store, bid).await.is_ok() {
                        wins.push(revision);
                    }
                }
                wins
            })
        })
        .collect();
    let mut wins = Vec::new();
    for rival in rivals {
        wins.extend(rival.await.expect("no rival panics"));
    }
    wins.sort_unstable();
    assert_eq!(wins, (0..30).collect::<Vec<_>>());
}

/// The commit feed repeats what is recorded: whole, consecutive, and no sooner than readable.
pub async fn the_feed_has_whole_batches_in_order(store: Arc<dyn EventStore>) {
    let mut feed = store.commits();
    let began = Instant::now();
    let pending: Vec<_> = (0..100)
        .map(|number| {
            let events = (0..=number % 4).map(counted).collect();
            store.append(to("a-1", events)).expect("room in the queue")
        })
        .collect();
    let mut last = GlobalPosition::START;
    for pending in pending {
        last = pending.await.expect("recorded").position;
    }
    let mut heard = Vec::new();
    while (heard.len() as u64) < last.get() {
        match feed.recv().await.expect("the feed does not lag by so little") {
            Commit::Batch { events, committed_at } => {
                assert!(committed_at >= began && committed_at <= Instant::now());
                assert!(!events.is_empty());
                heard.extend_from_slice(&events);
            }
            Commit::Head(head) => assert!(head <= last),
        }
    }
    assert_gapless(&heard, 1);
    assert_eq!(read_all(&*store, Target::All).await, heard);
}
