//! Removing and erasing: what goes, what stays, and how everything else goes on as before.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt;

use super::{append, counted, event_type, identified, page, read_all, record, stream, to};
use crate::{
    Append, AppendError, Category, Direction, ERASED_TYPE, EventId, EventRef, EventStore,
    ExpectedRevision, GlobalPosition, LogTail, NewEvent, Payload, Read, ReadStart, RecordedEvent,
    Removal, RemoveError, Removed, Revision, TailConfig, TailNews, Target, follow,
};

const LONG: Duration = Duration::from_secs(3600);

fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

fn category(name: &str) -> Category {
    Category::new(name).expect("the suite's names are good")
}

fn truncate(name: &str, before: u64) -> Removal {
    Removal::Truncate { stream: stream(name), before: Revision::new(before) }
}

fn delete(name: &str) -> Removal {
    Removal::Delete { stream: stream(name) }
}

fn erase(position: u64) -> Removal {
    Removal::Erase(EventRef::Position(at(position)))
}

fn sized(bytes: usize) -> NewEvent {
    NewEvent::json(event_type("Sized"), format!("\"{}\"", "x".repeat(bytes - 2)))
}

async fn remove(store: &dyn EventStore, removal: Removal) -> Removed {
    store.remove(removal).await.expect("a good removal is done")
}

/// The revisions of a stream, as its pages have them.
async fn revisions(store: &dyn EventStore, name: &str) -> Vec<u64> {
    let events = read_all(store, Target::Stream(stream(name))).await;
    events.iter().map(|event| event.revision.get()).collect()
}

fn is_live(event: &&RecordedEvent) -> bool {
    !event.is_removed()
}

/// The events before the revision are gone from every page; positions have no hole all the same.
pub async fn a_truncated_stream_begins_at_the_revision(store: Arc<dyn EventStore>) {
    for number in 0..4 {
        record(&*store, to("a-1", vec![counted(number), counted(number)])).await;
        record(&*store, to("a-2", vec![counted(number)])).await;
    }
    let removed = remove(&*store, truncate("a-1", 5)).await;
    let bytes = 5 * "{\"number\": 1}".len() as u64;
    assert_eq!(removed, Removed { events: 5, bytes, last: Some(at(7)), erasure: None });

    assert_eq!(revisions(&*store, "a-1").await, [5, 6, 7]);
    assert_eq!(revisions(&*store, "a-2").await, [0, 1, 2, 3]);
    let of_category = read_all(&*store, Target::Category(category("a"))).await;
    let positions: Vec<_> = of_category.iter().map(|event| event.position.get()).collect();
    assert_eq!(positions, [3, 6, 8, 9, 10, 11, 12]);
    let all = read_all(&*store, Target::All).await;
    super::assert_gapless(&all, 1);
    assert_eq!(all.len(), 12);
    for event in &all {
        let is_gone = [1, 2, 4, 5, 7].contains(&event.position.get());
        assert_eq!(event.is_removed(), is_gone, "{event:?}");
        if is_gone {
            assert_eq!((event.payload.len(), &event.meta), (0, &None));
        }
    }

    let removals = store.head().await.expect("a head").removals;
    assert_eq!(removals.through, at(7));
    let again = remove(&*store, truncate("a-1", 5)).await;
    assert_eq!(again, Removed::default(), "it was done before");
    assert_eq!(store.head().await.expect("a head").removals, removals);
    assert_eq!(remove(&*store, truncate("a-9", 5)).await, Removed::default());
}

/// Appends to a stream go on after its last revision, whatever was removed of it, in one group and
/// by a later one.
pub async fn revisions_are_never_used_again(store: Arc<dyn EventStore>) {
    record(&*store, to("a-1", vec![counted(0), counted(1), counted(2)])).await;
    remove(&*store, truncate("a-1", 2)).await;
    assert_eq!(record(&*store, to("a-1", vec![counted(3)])).await.revision.get(), 3);
    remove(&*store, delete("a-1")).await;
    assert_eq!(record(&*store, to("a-1", vec![counted(4), counted(5)])).await.revision.get(), 5);
    remove(&*store, truncate("a-1", 100)).await;
    assert!(revisions(&*store, "a-1").await.is_empty());
    assert_eq!(record(&*store, to("a-1", vec![counted(6)])).await.revision.get(), 6);
    assert_eq!(revisions(&*store, "a-1").await, [6]);
    // Other streams are as new as they were.
    assert_eq!(record(&*store, to("a-2", vec![counted(0)])).await.revision.get(), 0);
}

/// After a deletion a stream has no events, whatever the writer remembers of it.
pub async fn a_deleted_stream_counts_as_one_without_events(store: Arc<dyn EventStore>) {
    use ExpectedRevision::{Any, Exact, Exists, NoStream};
    for (number, (expected, met)) in
        [(NoStream, true), (Any, true), (Exists, false), (Exact(Revision::new(1)), false)]
            .into_iter()
            .enumerate()
    {
        for warm in [false, true] {
            let name = format!("a-{number}-{warm}");
            record(&*store, to(&name, vec![counted(0), counted(1)])).await;
            assert_eq!(remove(&*store, delete(&name)).await.events, 2);
            if warm {
                // The writer has looked at the log since.
                record(&*store, to("b-1", vec![counted(0)])).await;
            }
            let outcome = append(&*store, Append { expected, ..to(&name, vec![counted(2)]) }).await;
            if met {
                assert_eq!(outcome.map(|appended| appended.revision.get()), Ok(2), "{expected}");
                let exists = Append { expected: Exists, ..to(&name, vec![counted(3)]) };
                assert_eq!(record(&*store, exists).await.revision.get(), 3);
                let new = Append { expected: NoStream, ..to(&name, vec![counted(4)]) };
                append(&*store, new).await.expect_err("it has events again");
            } else {
                let wrong = AppendError::WrongExpectedRevision {
                    stream: stream(&name),
                    expected,
                    actual: None,
                };
                assert_eq!(outcome, Err(wrong));
                assert!(revisions(&*store, &name).await.is_empty());
            }
        }
    }
}

/// The payload and the metadata are gone, everything else of the event stays, and the stream says
/// so.
pub async fn an_erased_event_stands_without_what_it_carried(store: Arc<dyn EventStore>) {
    let meta = Some("{\"who\": \"me\"}".into());
    let event = NewEvent { meta, ..counted(7) };
    record(&*store, to("a-1", vec![counted(0), event, counted(2)])).await;
    record(&*store, to("a-2", vec![counted(0)])).await;
    let before = read_all(&*store, Target::All).await;

    let bytes = ("{\"number\": 7}".len() + "{\"who\": \"me\"}".len()) as u64;
    let removed = remove(&*store, erase(2)).await;
    assert_eq!((removed.events, removed.bytes, removed.last), (1, bytes, Some(at(2))));
    let erasure = removed.erasure.expect("a notice");
    assert_eq!((erasure.revision.get(), erasure.position.get()), (3, 5));

    let after = read_all(&*store, Target::All).await;
    let mut expected = before.clone();
    expected[1] = RecordedEvent { payload: Payload::Erased, meta: None, ..before[1].clone() };
    assert_eq!(after[..4], expected);
    let notice = &after[4];
    assert_eq!((notice.stream.as_str(), notice.event_type.as_str()), ("a-1", ERASED_TYPE));
    assert_eq!((notice.revision.get(), notice.position.get()), (3, 5));
    let data = format!("{{\"position\":2,\"revision\":1,\"id\":\"{}\"}}", before[1].id);
    assert_eq!(notice.payload, Payload::Json(data.into()));
    for target in [Target::Stream(stream("a-1")), Target::Category(category("a"))] {
        let found = read_all(&*store, target).await;
        assert!(found.iter().any(|event| event == &after[1]), "it is still delivered");
    }

    assert_eq!(remove(&*store, erase(2)).await, Removed::default(), "it was done before");
    let next = record(&*store, to("a-1", vec![counted(4)])).await;
    assert_eq!((next.revision.get(), next.position.get()), (4, 6));
    let removals = store.head().await.expect("a head").removals;
    assert_eq!(removals.through, at(0), "an erasure removes no event");
}

/// By position or by revision; what cannot be erased has its code.
pub async fn an_erasure_names_an_event_that_there_is(store: Arc<dyn EventStore>) {
    record(&*store, to("a-1", vec![counted(0), counted(1), counted(2)])).await;
    let by_revision =
        |revision| Removal::Erase(EventRef::Revision(stream("a-1"), Revision::new(revision)));
    let removed = remove(&*store, by_revision(1)).await;
    assert_eq!((removed.events, removed.last), (1, Some(at(2))));
    for (removal, error) in [
        (erase(0), RemoveError::NotFound),
        (erase(5), RemoveError::NotFound),
        (by_revision(4), RemoveError::NotFound),
        (erase(4), RemoveError::Reserved),
        (by_revision(3), RemoveError::Reserved),
    ] {
        assert_eq!(store.remove(removal).await, Err(error));
    }
    remove(&*store, delete("a-1")).await;
    for removal in [by_revision(0), by_revision(3), erase(1), erase(4)] {
        assert_eq!(remove(&*store, removal).await, Removed::default(), "it is gone");
    }
    assert_eq!(store.head().await.expect("a head").position, at(4));
}

/// What is older goes, of the category alone.
pub async fn by_age_what_is_old_enough_goes(store: Arc<dyn EventStore>) {
    for name in ["a-1", "b-1", "a-2"] {
        record(&*store, to(name, vec![counted(0), counted(1)])).await;
    }
    let older = |than| Removal::Older { category: category("a"), than };
    assert_eq!(remove(&*store, older(LONG)).await, Removed::default());
    let newest = read_all(&*store, Target::All).await.pop().expect("an event").recorded_at;
    while crate::Timestamp::now() <= newest {
        tokio::task::yield_now().await;
    }
    let removed = remove(&*store, older(Duration::ZERO)).await;
    assert_eq!((removed.events, removed.last), (4, Some(at(6))));
    let left = read_all(&*store, Target::All).await;
    let left: Vec<_> = left.iter().filter(is_live).map(|event| event.stream.as_str()).collect();
    assert_eq!(left, ["b-1", "b-1"]);
}

/// The newest events stay that have so many bytes together, of the category alone.
pub async fn by_size_the_newest_stay(store: Arc<dyn EventStore>) {
    for (name, bytes) in [("a-1", 100), ("b-1", 900), ("a-2", 50), ("a-1", 30), ("a-3", 20)] {
        record(&*store, to(name, vec![sized(bytes)])).await;
    }
    let beyond = |bytes| Removal::Beyond { category: category("a"), bytes };
    for (bytes, events, left) in
        [(200, 0, 4), (199, 1, 3), (100, 0, 3), (50, 1, 2), (49, 1, 1), (20, 0, 1), (0, 1, 0)]
    {
        let removed = remove(&*store, beyond(bytes)).await;
        assert_eq!(removed.events, events, "beyond {bytes}");
        let found = read_all(&*store, Target::Category(category("a"))).await;
        assert_eq!(found.len(), left, "within {bytes}");
    }
    assert_eq!(revisions(&*store, "b-1").await, [0]);
    assert_eq!(record(&*store, to("a-1", vec![counted(0)])).await.revision.get(), 2);
}

/// More events than one batch takes, among those that stay.
pub async fn a_large_removal_is_done_whole(store: Arc<dyn EventStore>) {
    for _ in 0..3 {
        record(&*store, to("a-1", (0..500).map(counted).collect())).await;
        record(&*store, to("b-1", vec![counted(0)])).await;
    }
    assert_eq!(remove(&*store, truncate("a-1", 1400)).await.events, 1400);
    assert_eq!(revisions(&*store, "a-1").await, (1400..1500).collect::<Vec<_>>());
    let older = Removal::Older { category: category("a"), than: Duration::ZERO };
    assert_eq!(remove(&*store, older).await.events, 100);
    assert_eq!(revisions(&*store, "b-1").await, [0, 1, 2]);
    assert_eq!(record(&*store, to("a-1", vec![counted(0)])).await.revision.get(), 1500);
}

/// Whoever goes on from before a removed event of their target is told, nobody else, and once.
pub async fn whoever_missed_something_is_told_where_to_begin(store: Arc<dyn EventStore>) {
    // a-1 at 1, 2, 5, 6; a-2 at 3, 4; b-1 at 7.
    for (name, events) in [("a-1", 2), ("a-2", 2), ("a-1", 2), ("b-1", 1)] {
        record(&*store, to(name, (0..events).map(counted).collect())).await;
    }
    let (a1, a2) = (Target::Stream(stream("a-1")), Target::Stream(stream("a-2")));
    let (a, b) = (Target::Category(category("a")), Target::Category(category("b")));
    let all = Target::All;
    for (target, after) in [(&a1, 1), (&a, 1), (&all, 1)] {
        let told = store.retained_after(target.clone(), at(after)).await;
        assert_eq!(told, Ok(None), "nothing was removed");
    }
    remove(&*store, truncate("a-1", 3)).await;
    for (target, after, expected) in [
        (&a1, 0, None),
        (&a1, 1, Some(6)),
        (&a1, 4, Some(6)),
        (&a1, 5, None),
        (&a1, 7, None),
        (&a2, 1, None),
        (&b, 1, None),
        // Something is left before what was removed: from the beginning.
        (&a, 1, Some(1)),
        (&a, 4, Some(1)),
        (&a, 5, None),
        (&a, 0, None),
        (&all, 4, Some(1)),
        (&all, 5, None),
        (&all, 0, None),
    ] {
        let told = store.retained_after(target.clone(), at(after)).await.expect("an answer");
        assert_eq!(told, expected.map(at), "{target:?} after {after}");
    }
    remove(&*store, delete("a-1")).await;
    remove(&*store, delete("a-2")).await;
    for (target, after, expected) in
        [(&a1, 3, Some(8)), (&a1, 6, None), (&a, 3, Some(8)), (&a, 6, None), (&b, 3, None)]
    {
        let told = store.retained_after(target.clone(), at(after)).await.expect("an answer");
        assert_eq!(told, expected.map(at), "{target:?} after {after}");
    }
}

/// Followers get what is left, each once; who reads the whole log counts every position.
pub async fn readers_pass_over_what_was_removed(store: Arc<dyn EventStore>) {
    for number in 0..30 {
        record(&*store, to("a-1", vec![counted(number)])).await;
        record(&*store, to("b-1", vec![counted(number)])).await;
    }
    remove(&*store, truncate("a-1", 20)).await;
    remove(&*store, erase(2)).await;

    let config = TailConfig { page_limit: 7, ..TailConfig::default() };
    let mut tail = LogTail::new(store.clone(), at(0), config.clone());
    let mut next = 1;
    while next <= 61 {
        for event in tail.next().await.events.iter() {
            assert_eq!(event.position.get(), next);
            next += 1;
        }
    }
    let expected: Vec<_> = (1..=61).filter(|at| at % 2 == 0 || *at > 40).collect();
    let all = follow(store.clone(), Target::All, Vec::new(), at(0), config);
    let seen: Vec<_> = all.take(expected.len()).map(|event| event.position.get()).collect().await;
    assert_eq!(seen, expected);
}

/// Whoever follows the log hears that something was removed, though nothing was appended.
pub async fn a_tail_tells_of_removals(store: Arc<dyn EventStore>) {
    record(&*store, to("a-1", vec![counted(0), counted(1)])).await;
    let head = store.head().await.expect("a head");
    let config = TailConfig { head_poll: Duration::from_millis(5), ..TailConfig::default() };
    let mut tail = LogTail::after_head(store.clone(), head, config);
    for before in [1, 2] {
        remove(&*store, truncate("a-1", before)).await;
        match tail.news().await {
            TailNews::Removals(removals) => assert_eq!(removals.through, at(before)),
            other => panic!("nobody expects {other:?}"),
        }
    }
}

/// The answer to an append that was recorded before does not depend on what became of its events.
pub async fn a_repeated_append_gets_its_first_answer_after_a_removal(store: Arc<dyn EventStore>) {
    let sent = to("a-1", vec![identified(EventId::generate()), identified(EventId::generate())]);
    let first = record(&*store, sent.clone()).await;
    remove(&*store, erase(2)).await;
    assert_eq!(record(&*store, sent.clone()).await, first);
    remove(&*store, delete("a-1")).await;
    assert_eq!(record(&*store, sent).await, first);
    assert!(revisions(&*store, "a-1").await.is_empty());
}

/// Nobody can append what only a removal leaves.
pub async fn an_append_needs_a_payload(store: Arc<dyn EventStore>) {
    for payload in [Payload::Erased, Payload::Removed] {
        let event = NewEvent { payload, ..counted(0) };
        let error = append(&*store, to("a-1", vec![event])).await.expect_err("no payload");
        assert_eq!(error.code(), "invalid_json");
    }
}

/// A log as plain as can be.
#[derive(Default)]
struct Model {
    log: Vec<Row>,
    ends: BTreeMap<&'static str, u64>,
}

#[derive(Clone)]
struct Row {
    stream: &'static str,
    revision: u64,
    bytes: u64,
    /// None: erased, or Tidewire's own.
    number: Option<u64>,
    removed: bool,
}

impl Model {
    fn push(&mut self, stream: &'static str, number: Option<u64>, bytes: u64) {
        let end = self.ends.entry(stream).or_default();
        self.log.push(Row { stream, revision: *end, bytes, number, removed: false });
        *end += 1;
    }

    fn last(&self, stream: &str) -> Option<u64> {
        let left = self.log.iter().filter(|row| !row.removed && row.stream == stream);
        left.map(|row| row.revision).next_back()
    }

    fn doom(&mut self, mut doomed: impl FnMut(&Row) -> bool) -> u64 {
        let mut count = 0;
        for row in self.log.iter_mut().filter(|row| !row.removed) {
            if doomed(row) {
                row.removed = true;
                count += 1;
            }
        }
        count
    }

    /// Positions and revisions of what is left of a target.
    fn left(&self, target: &Target) -> Vec<(u64, u64)> {
        let rows = (1..).zip(&self.log).filter(|(_, row)| {
            !row.removed
                && match target {
                    Target::All => true,
                    Target::Category(category) => row.stream.starts_with(category.as_str()),
                    Target::Stream(stream) => row.stream == stream.as_str(),
                }
        });
        rows.map(|(position, row)| (position, row.revision)).collect()
    }
}

/// Random appends, removals and erasures; afterwards, and on the way, every page of every target
/// agrees with the model, and every expectation is judged by it.
pub async fn random_removals_agree_with_a_model(store: Arc<dyn EventStore>) {
    const STREAMS: [&str; 4] = ["a-1", "a-2", "b-1", "b-2"];
    // A generator of its own, so that every store sees the same (Knuth's MMIX constants).
    let mut state = 7_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let mut model = Model::default();
    for step in 0..250 {
        let name = STREAMS[random(4) as usize];
        let of_category = &name[..1];
        match random(10) {
            0..=4 => {
                let count = 1 + random(3);
                let last = model.last(name);
                let (expected, met) = match random(5) {
                    0 => (ExpectedRevision::NoStream, last.is_none()),
                    1 => (ExpectedRevision::Exists, last.is_some()),
                    2 => {
                        let revision = random(30);
                        (ExpectedRevision::Exact(Revision::new(revision)), last == Some(revision))
                    }
                    3 => {
                        let end = model.ends.get(name).copied().unwrap_or(1);
                        let revision = Revision::new(end.saturating_sub(1));
                        (ExpectedRevision::Exact(revision), last == Some(revision.get()))
                    }
                    _ => (ExpectedRevision::Any, true),
                };
                let events = (0..count).map(|_| counted(step)).collect();
                let outcome = append(&*store, Append { expected, ..to(name, events) }).await;
                assert_eq!(outcome.is_ok(), met, "step {step}: {expected} on {name} at {last:?}");
                if let Ok(appended) = outcome {
                    for _ in 0..count {
                        let bytes = format!("{{\"number\": {step}}}").len() as u64;
                        model.push(name, Some(step), bytes);
                    }
                    assert_eq!(appended.revision.get(), model.ends[name] - 1, "step {step}");
                    assert_eq!(appended.position.get(), model.log.len() as u64);
                }
            }
            5 => {
                let before = random(model.ends.get(name).copied().unwrap_or(0) + 2);
                let removed = remove(&*store, truncate(name, before)).await;
                let expected = model.doom(|row| row.stream == name && row.revision < before);
                assert_eq!(removed.events, expected, "step {step}");
            }
            6 if step % 3 == 0 => {
                let removed = remove(&*store, delete(name)).await;
                assert_eq!(removed.events, model.doom(|row| row.stream == name), "step {step}");
            }
            7 => {
                let bytes = random(400);
                let removal = Removal::Beyond { category: category(of_category), bytes };
                let removed = remove(&*store, removal).await;
                let mut kept = 0;
                let left = model.log.iter().rev();
                let mut left =
                    left.filter(|row| !row.removed && row.stream.starts_with(of_category));
                let stay = left.by_ref().take_while(|row| {
                    kept += row.bytes;
                    kept <= bytes
                });
                let mut goes = (model.left(&Target::Category(category(of_category))).len()
                    - stay.count()) as u64;
                let expected = goes;
                model.doom(|row| {
                    let doomed = row.stream.starts_with(of_category) && goes > 0;
                    goes -= u64::from(doomed);
                    doomed
                });
                assert_eq!(removed.events, expected, "step {step}: beyond {bytes}");
            }
            _ => {
                let position = 1 + random(model.log.len() as u64 + 1);
                let outcome = store.remove(erase(position)).await;
                let row = model.log.get_mut(position as usize - 1);
                match (outcome, row) {
                    (Err(RemoveError::NotFound), None) => {}
                    (Ok(Removed { events: 0, .. }), Some(row)) => {
                        assert!(row.removed || row.bytes == 0, "step {step}: {position}");
                    }
                    (Ok(Removed { events: 1, erasure: Some(erasure), .. }), Some(row)) => {
                        assert!(!row.removed && row.number.is_some(), "step {step}: {position}");
                        (row.number, row.bytes) = (None, 0);
                        let name = row.stream;
                        model.push(name, None, 0);
                        assert_eq!(erasure.position.get(), model.log.len() as u64);
                        assert_eq!(erasure.revision.get(), model.ends[name] - 1);
                        let events = read_all(&*store, Target::Stream(stream(name))).await;
                        let notice = events.last().expect("a notice");
                        let row = model.log.last_mut().expect("just pushed");
                        row.bytes = notice.payload.len() as u64;
                    }
                    (Err(RemoveError::Reserved), Some(row)) => {
                        assert!(row.number.is_none() && row.bytes > 0, "step {step}: {position}");
                    }
                    (outcome, _) => panic!("step {step}: erasing {position} came to {outcome:?}"),
                }
            }
        }
        if step % 10 == 9 {
            compare(&*store, &model, &STREAMS, step, &mut random).await;
        }
    }
}

async fn compare(
    store: &dyn EventStore,
    model: &Model,
    streams: &[&'static str],
    step: u64,
    random: &mut impl FnMut(u64) -> u64,
) {
    let named = streams.iter().map(|name| Target::Stream(stream(name)));
    let categories = ["a", "b"].map(|name| Target::Category(category(name)));
    let head = model.log.len() as u64;
    for target in named.chain(categories).chain([Target::All]) {
        let left = model.left(&target);
        let found = read_all(store, target.clone()).await;
        let outline: Vec<_> = found
            .iter()
            .filter(is_live)
            .map(|event| (event.position.get(), event.revision.get()))
            .collect();
        assert_eq!(outline, left, "step {step}: {target:?}");
        for event in found.iter().filter(is_live) {
            let row = &model.log[event.position.get() as usize - 1];
            assert_eq!(event.stream.as_str(), row.stream);
            let bare = row.number.is_none() && row.bytes == 0;
            assert_eq!(event.payload == Payload::Erased, bare, "step {step}: {event:?}");
        }
        if target == Target::All {
            assert_eq!(found.len() as u64, head, "step {step}: positions have no holes");
        }

        // Pages that begin anywhere, either way.
        let from = random(head + 2);
        for direction in [Direction::Forwards, Direction::Backwards] {
            let read = Read {
                direction,
                from: ReadStart::Position(at(from)),
                ..Read::after(target.clone(), at(0), 1000)
            };
            let mut found: Vec<_> = page(store, read)
                .await
                .events
                .iter()
                .filter(is_live)
                .map(|event| event.position.get())
                .collect();
            let is_in = |position: &u64| match direction {
                Direction::Forwards => *position > from,
                Direction::Backwards => *position < from,
            };
            let expected: Vec<_> =
                left.iter().map(|(position, _)| *position).filter(is_in).collect();
            if direction == Direction::Backwards {
                found.reverse();
            }
            assert_eq!(found, expected, "step {step}: {direction:?} of {target:?} at {from}");
        }

        // Whoever has seen the target through `from` is told of a removal after it, and, where
        // they begin from there, has everything that is left and is not told again.
        let told = store.retained_after(target.clone(), at(from)).await.expect("an answer");
        let missed = (1..).zip(&model.log).any(|(position, row)| {
            let of_target = target.includes(&stream(row.stream));
            row.removed && of_target && position > from
        });
        assert_eq!(told.is_some(), missed && from > 0, "step {step}: {target:?} after {from}");
        if let Some(first) = told {
            assert!(left.first().is_none_or(|(position, _)| first.get() <= *position));
            let again = store.retained_after(target.clone(), first.previous()).await;
            assert_eq!(again, Ok(None), "step {step}: {target:?} from {first}");
        }
    }
}
