//! Reading: bytes, pages in every form, names, epochs.

use std::sync::Arc;

use bytes::Bytes;

use super::{counted, event_type, page, read_all, record, stream, to};
use crate::{
    Category, Direction, EventStore, EventType, GlobalPosition, NewEvent, Payload, Read, ReadStart,
    RecordedEvent, Revision, StreamName, Target,
};

/// JSON keeps its spaces, key order, doubled keys, escapes and numbers; binary keeps every byte.
pub async fn bytes_come_back_verbatim(store: Arc<dyn EventStore>) {
    let json = |text: &'static str| Payload::Json(Bytes::from_static(text.as_bytes()));
    let binary = |content_type: &str, data: &[u8]| Payload::Binary {
        content_type: content_type.into(),
        data: Bytes::copy_from_slice(data),
    };
    let every_byte: Vec<u8> = (0..=255).collect();
    let payloads = [
        json(" {\"b\" : 1,\n\t\"a\":1.10, \"b\":2 } "),
        json("12345678901234567890123456789.00e+400"),
        json("\"\\u0000 \\ud800 \\u00e9 é 🛫 \u{2028}\""),
        json("null"),
        json("\"\""),
        binary("application/cbor", &every_byte),
        binary("application/json", b"not JSON at all"),
        binary("text/plain", b""),
    ];
    let metas = [None, Some(Bytes::from_static(b"{ \"by\" : \"\\u00e9\" }"))];
    for payload in &payloads {
        for meta in &metas {
            let event = NewEvent {
                id: None,
                event_type: event_type("T"),
                payload: payload.clone(),
                meta: meta.clone(),
            };
            record(&*store, to("a-1", vec![event])).await;
        }
    }
    let events = read_all(&*store, Target::All).await;
    let expected =
        payloads.iter().flat_map(|payload| metas.iter().map(move |meta| (payload, meta)));
    assert_eq!(events.len(), payloads.len() * metas.len());
    for (event, (payload, meta)) in events.iter().zip(expected) {
        assert_eq!((&event.payload, &event.meta), (payload, meta));
    }
}

/// Records the same mixed log for every case that reads, and returns it.
async fn mixed_log(store: &dyn EventStore) -> Vec<RecordedEvent> {
    for number in 0..24_u64 {
        let name = ["a-1", "b-1", "a-2", "a"][usize::try_from(number % 4).expect("small")];
        let types = ["Opened", "Moved", "Closed"];
        let events = (0..=number % 3)
            .map(|index| {
                let name = types[usize::try_from((number + index) % 3).expect("small")];
                NewEvent { event_type: event_type(name), ..counted(number) }
            })
            .collect();
        record(store, to(name, events)).await;
    }
    read_all(store, Target::All).await
}

fn targets() -> Vec<Target> {
    let category = |name| Target::Category(Category::new(name).expect("a good name"));
    vec![
        Target::All,
        category("a"),
        category("none"),
        Target::Stream(stream("a-1")),
        Target::Stream(stream("a")),
        Target::Stream(stream("none-1")),
    ]
}

/// What a page must hold, computed from the whole log.
fn model(log: &[RecordedEvent], read: &Read) -> Vec<RecordedEvent> {
    let forwards = read.direction == Direction::Forwards;
    let begun = |at: u64, from: u64| if forwards { at > from } else { at < from };
    let mut events: Vec<_> = log
        .iter()
        .filter(|event| read.target.includes(&event.stream))
        .filter(|event| read.types.is_empty() || read.types.contains(&event.event_type))
        .filter(|event| read.until.is_none_or(|until| event.position <= until))
        .filter(|event| match read.from {
            ReadStart::End => true,
            ReadStart::Position(from) => begun(event.position.get(), from.get()),
            ReadStart::Revision(from) => {
                matches!(read.target, Target::Stream(_)) && begun(event.revision.get(), from.get())
            }
        })
        .cloned()
        .collect();
    if !forwards {
        events.reverse();
    }
    events
}

/// Every target, direction, filter, start, end and limit.
pub async fn every_page_agrees_with_a_model(store: Arc<dyn EventStore>) {
    let log = mixed_log(&*store).await;
    let head = log.len() as u64;
    let position = |number| ReadStart::Position(GlobalPosition::new(number));
    let revision = |number| ReadStart::Revision(Revision::new(number));
    let starts = [
        ReadStart::End,
        position(0),
        position(1),
        position(17),
        position(head),
        position(head + 10),
        revision(0),
        revision(3),
        revision(1000),
    ];
    let filters = [vec![], vec!["Moved"], vec!["Opened", "Closed"], vec!["Never"]];
    for target in targets() {
        for direction in [Direction::Forwards, Direction::Backwards] {
            for types in &filters {
                let types: Vec<EventType> = types.iter().map(|name| event_type(name)).collect();
                for from in starts {
                    for until in [None, Some(0), Some(23), Some(head + 10)] {
                        for limit in [1, 5, 1000] {
                            let read = Read {
                                target: target.clone(),
                                types: types.clone(),
                                direction,
                                from,
                                until: until.map(GlobalPosition::new),
                                limit,
                            };
                            let page = page(&*store, read.clone()).await;
                            let all = model(&log, &read);
                            let cut = all.len().min(limit);
                            assert_eq!(page.events, all[..cut], "{read:?}");
                            assert!(page.more || all.len() <= limit, "{read:?}");
                            assert!(!page.more || cut == limit, "{read:?}");
                            assert_eq!(page.head.get(), head);
                        }
                    }
                }
            }
        }
    }
}

/// Going on from each page's last event, both ways, by position and by revision.
pub async fn pages_joined_are_the_whole_log(store: Arc<dyn EventStore>) {
    #[derive(Clone, Copy, PartialEq)]
    enum By {
        Position,
        Revision,
    }
    let log = mixed_log(&*store).await;
    for target in targets() {
        for direction in [Direction::Forwards, Direction::Backwards] {
            for by in [By::Position, By::Revision] {
                if by == By::Revision && !matches!(target, Target::Stream(_)) {
                    continue;
                }
                let mut read = Read {
                    target: target.clone(),
                    types: Vec::new(),
                    direction,
                    from: ReadStart::End,
                    until: None,
                    limit: 3,
                };
                let expected = model(&log, &read);
                let mut joined = Vec::new();
                loop {
                    let page = page(&*store, read.clone()).await;
                    if let Some(last) = page.events.last() {
                        read.from = match by {
                            By::Position => ReadStart::Position(last.position),
                            By::Revision => ReadStart::Revision(last.revision),
                        };
                    }
                    joined.extend(page.events);
                    if !page.more {
                        break;
                    }
                }
                assert_eq!(joined, expected, "{target:?} {direction:?}");
            }
        }
    }
}

/// Case, accents in either form, length and what looks like a pattern: all are different names.
pub async fn names_are_compared_exactly(store: Arc<dyn EventStore>) {
    let names = [
        "öl-1",
        "o\u{308}l-1",
        "ÖL-1",
        "öl-11",
        "öl",
        "ö%-1",
        "ö_-1",
        "🛫-1",
        "'öl'-1",
        "ß-1",
        "ss-1",
    ];
    for name in names {
        let appended = record(&*store, to(name, vec![counted(0)])).await;
        assert_eq!(appended.revision, Revision::FIRST, "{name}");
    }
    for name in names {
        let name = StreamName::new(name).expect("a good name");
        let events = read_all(&*store, Target::Stream(name.clone())).await;
        assert_eq!(events.len(), 1, "{name}");
        assert_eq!(events[0].stream, name);
        let of_category = read_all(&*store, Target::Category(name.category())).await;
        let alike = names.iter().filter(|other| stream(other).category() == name.category());
        assert_eq!(of_category.len(), alike.count(), "{name}");
    }
}

/// Nothing, up to the start.
pub async fn an_empty_log_has_empty_pages(store: Arc<dyn EventStore>) {
    for target in targets() {
        for direction in [Direction::Forwards, Direction::Backwards] {
            let read = Read {
                target: target.clone(),
                types: Vec::new(),
                direction,
                from: ReadStart::End,
                until: None,
                limit: 10,
            };
            let page = page(&*store, read).await;
            assert!(page.events.is_empty() && !page.more && page.head == GlobalPosition::START);
        }
    }
    let head = store.head().await.expect("a head");
    assert_eq!((head.position, head.epochs.len()), (GlobalPosition::START, 1));
    assert_eq!(head.epochs[0].first_position.get(), 1);
}

/// Whatever limit was asked for.
pub async fn a_page_has_at_least_one_and_at_most_5000_events(store: Arc<dyn EventStore>) {
    for _ in 0..6 {
        record(&*store, to("a-1", vec![counted(0); 1000])).await;
    }
    for (limit, count) in [(0, 1), (1, 1), (5000, 5000), (5001, 5000), (usize::MAX, 5000)] {
        let page = page(&*store, Read::after(Target::All, GlobalPosition::START, limit)).await;
        assert_eq!(page.events.len(), count);
        assert!(page.more);
    }
}

/// A store may bound a page's bytes, but then it says that there is more, and it always goes on.
pub async fn large_pages_may_end_early_but_say_so(store: Arc<dyn EventStore>) {
    let payload = Payload::Binary { content_type: "a/b".into(), data: vec![1; 1024 * 1024].into() };
    let event = NewEvent { payload, ..counted(0) };
    for _ in 0..5 {
        record(&*store, to("a-1", vec![event.clone(); 4])).await;
    }
    assert_eq!(read_all(&*store, Target::All).await.len(), 20);
}

/// The epochs are in order, the last one is current, and it starts past the head.
pub async fn a_new_epoch_begins_after_the_head(store: Arc<dyn EventStore>) {
    let first = store.head().await.expect("a head").epochs[0];
    record(&*store, to("a-1", vec![counted(0), counted(1)])).await;
    let second = store.begin_epoch().await.expect("a new epoch");
    let third = store.begin_epoch().await.expect("a new epoch");
    assert_eq!((second.first_position.get(), third.first_position.get()), (3, 3));
    record(&*store, to("a-1", vec![counted(2)])).await;
    let head = store.head().await.expect("a head");
    assert_eq!(head.position.get(), 3);
    assert_eq!(*head.epochs, [first, second, third]);
    assert!(first.epoch != second.epoch && second.epoch != third.epoch);
}
