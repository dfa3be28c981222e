//! Following: no hole and no double, whatever happens at the same time.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};

use super::{assert_gapless, counted, event_type, read_all, record, to};
use crate::{
    Category, EventStore, EventType, GlobalPosition, LogTail, NewEvent, RecordedEvent, TailConfig,
    Target, follow,
};

fn config() -> TailConfig {
    TailConfig { page_limit: 7, ..TailConfig::with_head_poll(Duration::from_millis(20)) }
}

/// Appends `count` events of two categories and two types, from several tasks at once.
fn appending(store: &Arc<dyn EventStore>, count: u64) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4 {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            for number in 0..count / 4 {
                let name = if number % 3 == 0 { "a-1" } else { "b-1" };
                let event_type = event_type(if number % 2 == 0 { "Even" } else { "Odd" });
                let event = NewEvent { event_type, ..counted(task * 1000 + number) };
                record(&*store, to(name, vec![event])).await;
            }
        });
    }
    tasks
}

async fn take(tail: &mut LogTail, until: u64) -> Vec<RecordedEvent> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    while tail.position().get() < until {
        events.extend_from_slice(&tail.next().await.events);
    }
    events
}

/// Some of it recorded before, some while following.
pub async fn a_tail_hands_out_the_whole_log_once(store: Arc<dyn EventStore>) {
    appending(&store, 100).join_all().await;
    let tasks = appending(&store, 200);
    let mut tail = LogTail::new(Arc::clone(&store), GlobalPosition::START, config());
    let events = take(&mut tail, 300).await;
    tasks.join_all().await;
    assert_gapless(&events, 1);
    assert_eq!(events, read_all(&*store, Target::All).await);
}

/// From the middle, from the head, and from before what is recorded later.
pub async fn a_tail_begins_where_it_is_told(store: Arc<dyn EventStore>) {
    appending(&store, 40).join_all().await;
    for after in [1, 39, 40] {
        let head = store.head().await.expect("a head").position.get();
        let mut tail = LogTail::new(Arc::clone(&store), GlobalPosition::new(after), config());
        record(&*store, to("a-1", vec![counted(0)])).await;
        let events = take(&mut tail, head + 1).await;
        assert_gapless(&events, after + 1);
        assert_eq!(events.len() as u64, head + 1 - after);
    }
}

/// `next` is cancel-safe: polled once and dropped again and again, it still gets everything.
pub async fn a_dropped_wait_loses_nothing(store: Arc<dyn EventStore>) {
    appending(&store, 20).join_all().await;
    let mut tail = LogTail::new(Arc::clone(&store), GlobalPosition::START, config());
    let tasks = appending(&store, 100);
    let mut events = Vec::new();
    while events.len() < 120 {
        match tail.next().now_or_never() {
            Some(batch) => events.extend_from_slice(&batch.events),
            None => tokio::task::yield_now().await,
        }
    }
    tasks.join_all().await;
    assert_gapless(&events, 1);
    assert_eq!(events.len(), 120);
}

/// What this process commits comes with the moment; what was read does not.
pub async fn live_batches_tell_when_they_were_committed(store: Arc<dyn EventStore>) {
    record(&*store, to("a-1", vec![counted(0)])).await;
    let mut tail = LogTail::new(Arc::clone(&store), GlobalPosition::START, config());
    assert_eq!(tail.next().await.committed_at, None);
    let before = std::time::Instant::now();
    record(&*store, to("a-1", vec![counted(0)])).await;
    // The answer comes after the news, so the tail need not look at the store.
    let batch = tail.next().await;
    assert!(batch.committed_at.is_some_and(|at| at >= before));
}

/// Everything, begun at every few positions while others append.
pub async fn follow_catches_up_and_goes_live_without_hole_or_double(store: Arc<dyn EventStore>) {
    appending(&store, 40).join_all().await;
    let tasks = appending(&store, 160);
    let followers: Vec<_> = [0, 3, 40, 60]
        .into_iter()
        .map(|after| {
            let from = GlobalPosition::new(after);
            let events = follow(Arc::clone(&store), Target::All, Vec::new(), from, config());
            let count = usize::try_from(200 - after).expect("fits");
            let events = tokio::spawn(events.take(count).collect::<Vec<_>>());
            (after, events)
        })
        .collect();
    for (after, events) in followers {
        let events = events.await.expect("no follower panics");
        assert_gapless(&events, after + 1);
    }
    tasks.join_all().await;
}

/// By category and type, recorded and live.
pub async fn follow_gives_only_what_was_asked_for(store: Arc<dyn EventStore>) {
    appending(&store, 60).join_all().await;
    let target = Target::Category(Category::new("a").expect("a good name"));
    let even = EventType::new("Even").expect("a good name");
    let types = vec![even.clone()];
    let mut events =
        follow(Arc::clone(&store), target.clone(), types, GlobalPosition::START, config());
    let first = events.next().await.expect("the stream never ends");
    appending(&store, 60).join_all().await;
    let mut expected = read_all(&*store, target).await;
    expected.retain(|event| event.event_type == even);
    assert!(expected.len() > 10);
    let mut got = vec![first];
    while got.len() < expected.len() {
        got.push(events.next().await.expect("the stream never ends"));
    }
    assert_eq!(got, expected);
}
