//! The hub against a naive model: what its groups tell, applied, is what the query selects.

use std::{cell::Cell, collections::BTreeMap, num::NonZeroU32};

use proptest::prelude::*;
use serde_json::{Value, json};
use tidewire_eventstore::DocumentKey;
use tidewire_projections::{Before, Content, query::Ranking};
use tidewire_protocol::{
    codec::json,
    frame::{FrameDecoder, FrameLimits, Message},
    messages::ServerMessage,
    query::{Condition, Document, FieldPath, Order, OrderDirection, SortKey, Window as Span},
};

use super::*;
use crate::live::window::{Fill, known_max};

const LIMITS: FrameLimits = FrameLimits::client(1 << 26);

#[derive(Default)]
struct Reader(Cell<u32>);

impl Member for Reader {
    fn wake(&self) {
        self.0.set(self.0.get() + 1);
    }
}

fn name() -> ProjectionName {
    ProjectionName::new("things").expect("a good name")
}

fn key(text: &str) -> DocumentKey {
    DocumentKey::new(text).expect("a good key")
}

fn field(path: &str) -> FieldPath {
    FieldPath::new(path).expect("a good path")
}

fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

const FIRST: Generation = Generation::new(1);

fn reached(position: u64) -> Reached {
    Reached { generation: FIRST, position: at(position) }
}

fn hub(log_bytes_max: usize) -> LiveHub<Reader> {
    LiveHub::new(log_bytes_max, Arc::default())
}

fn live_key(query: Query) -> LiveKey {
    LiveKey { query: Arc::new(query), sub: Sub::new(1) }
}

fn equals(path: &str, value: &Value) -> Condition {
    Condition::In(field(path), [SortKey::of([Some(value)])].into())
}

fn content(value: &Value) -> Content {
    Content::new(Bytes::from(value.to_string()))
}

/// The documents of a projection, and what becomes of them.
#[derive(Default)]
struct World {
    documents: BTreeMap<DocumentKey, Value>,
    position: u64,
}

impl World {
    /// Changes documents in one step; what they were is said where `knows`.
    fn step(&mut self, changes: &[(DocumentKey, Option<Value>)], knows: bool) -> Arc<ChangeBatch> {
        let after = at(self.position);
        self.position += changes.len() as u64;
        let mut all: BTreeMap<DocumentKey, DocumentChange> = BTreeMap::new();
        for (key, value) in changes {
            let before = match self.documents.get(key) {
                _ if !knows => Before::Unknown,
                Some(value) => Before::Document(content(value)),
                None => Before::Absent,
            };
            match value {
                Some(value) => self.documents.insert(key.clone(), value.clone()),
                None => self.documents.remove(key),
            };
            // Of each document, what it was before the step and what it is after it.
            let change =
                DocumentChange { key: key.clone(), before, after: value.as_ref().map(content) };
            all.entry(key.clone())
                .and_modify(|all| all.after = change.after.clone())
                .or_insert(DocumentChange { after: change.after.clone(), ..change });
        }
        let position = at(self.position);
        let changes = all.into_values().collect();
        Arc::new(ChangeBatch { generation: FIRST, after, position, changes })
    }

    /// What a query selects, by looking at everything.
    fn selected(&self, query: &Query) -> BTreeMap<DocumentKey, Value> {
        let order = query.window.as_ref().map(|window| window.order.clone()).unwrap_or_default();
        let ranking = Ranking::new(order);
        let mut ranked: Vec<_> = self
            .documents
            .iter()
            .filter(|(key, _)| query.key.as_ref().is_none_or(|only| only == *key))
            .filter(|(_, value)| query.condition.as_ref().is_none_or(|all| all.matches(value)))
            .map(|(key, value)| (ranking.of(key, value), (key.clone(), value.clone())))
            .collect();
        ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
        let limit = query.window.as_ref().map_or(usize::MAX, |window| window.limit.get() as usize);
        ranked.into_iter().take(limit).map(|(_, document)| document).collect()
    }

    /// What is read to fill a window.
    fn fill(&self, query: &Query) -> Arc<WindowPage> {
        let limit = query.window.as_ref().map_or(0, |window| window.limit.get() as usize);
        let wide = Query {
            window: query.window.clone().map(|window| Span {
                limit: NonZeroU32::new(known_max(limit) as u32).expect("it is not zero"),
                ..window
            }),
            ..query.clone()
        };
        let all = self.selected(&Query { window: None, ..query.clone() }).len();
        let documents: Vec<_> = self.selected(&wide).into_iter().map(document).collect();
        let complete = documents.len() == all;
        let (position, horizon) = (at(self.position), at(self.position));
        let fill = Fill { position, horizon, documents, complete };
        Arc::new(WindowPage { generation: FIRST, fill })
    }
}

fn document((key, value): (DocumentKey, Value)) -> Document {
    Document { key, data: Bytes::from(value.to_string()) }
}

/// A client, as far as documents go.
#[derive(Default, Debug)]
struct Client(BTreeMap<DocumentKey, Value>);

impl Client {
    fn receive(&mut self, frames: &[u8]) {
        let mut buffer = bytes::BytesMut::from(frames);
        let mut decoder = FrameDecoder::new(LIMITS);
        while !buffer.is_empty() {
            let message = decoder.decode(&mut buffer).expect("good frames").expect("whole frames");
            let Message::Text(text) = message else { panic!("not a text") };
            match json::decode_server(text.as_ref()).expect("a good message") {
                ServerMessage::State { documents, .. } => {
                    for document in documents {
                        self.put(&document);
                    }
                }
                ServerMessage::Changes { changes, .. } => {
                    changes.iter().for_each(|change| self.change(change));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn put(&mut self, document: &Document) {
        let value = serde_json::from_slice(&document.data).expect("JSON");
        self.0.insert(document.key.clone(), value);
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Put(document) => self.put(document),
            Change::Patch { key, patch } => {
                let patch = serde_json::from_slice(patch).expect("JSON");
                let held = self.0.remove(key).expect("only what is held is patched");
                self.0.insert(key.clone(), merge(held, &patch));
            }
            Change::Delete { key } => {
                self.0.remove(key);
            }
        }
    }
}

/// Merges as RFC 7396 has it.
fn merge(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut members = match target {
        Value::Object(members) => members,
        _ => serde_json::Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            let member = members.remove(name).unwrap_or_default();
            members.insert(name.clone(), merge(member, value));
        }
    }
    Value::Object(members)
}

/// A reader that follows one group.
struct Follower {
    query: Query,
    seat: Seat,
    cursor: Option<Cursor>,
    position: GlobalPosition,
    client: Client,
}

impl Follower {
    fn sit(hub: &mut LiveHub<Reader>, query: &Query) -> Self {
        let (seat, _) = hub.join(live_key(query.clone()), Rc::default());
        let (position, client) = (GlobalPosition::START, Client::default());
        Self { query: query.clone(), seat, cursor: None, position, client }
    }

    /// Attaches with what it would have read of the store, or is given its window.
    fn attach(&mut self, hub: &mut LiveHub<Reader>, world: &World) {
        if self.query.window.is_some() {
            let Ok(shown) = hub.window(self.seat, None) else { return };
            self.client = Client::default();
            shown.frames.iter().for_each(|frame| self.client.receive(frame));
            self.position = shown.reached.position;
            self.cursor = Some(shown.cursor);
            return;
        }
        self.client = Client(world.selected(&self.query));
        self.position = at(world.position);
        if let Attached::At(cursor) = hub.attach(self.seat, reached(world.position)) {
            self.cursor = Some(cursor);
        }
    }

    /// Takes whatever there is; whether it can go on.
    fn pull(&mut self, hub: &LiveHub<Reader>) -> bool {
        let Some(mut cursor) = self.cursor else { return false };
        loop {
            let (step, frames) = match hub.next(self.seat, &mut cursor, self.position) {
                Next::Step(step) => (step, step.frames.clone()),
                Next::Torn(step) => (step, hub.plain(self.seat, step)),
                Next::Empty => break,
                Next::Fallen => {
                    self.cursor = None;
                    return false;
                }
            };
            self.client.receive(&frames);
            assert!(step.position > self.position, "positions rise");
            self.position = step.position;
            cursor.advance();
        }
        self.cursor = Some(cursor);
        true
    }
}

fn value() -> impl Strategy<Value = Value> {
    (0..3, 0..40, prop::option::of(0..3), "[a-z]{0,120}").prop_map(|(a, b, c, text)| {
        let mut value = json!({ "a": a, "b": b, "text": text });
        if let Some(c) = c {
            value["c"] = json!({ "deep": c });
        }
        value
    })
}

fn change() -> impl Strategy<Value = (DocumentKey, Option<Value>)> {
    ("[a-g]{1,2}", prop::option::weighted(0.75, value()))
        .prop_map(|(text, value)| (key(&text), value))
}

fn query() -> impl Strategy<Value = Query> {
    let condition = prop_oneof![
        Just(None),
        (0..3).prop_map(|a| Some(equals("a", &json!(a)))),
        (0..40).prop_map(|b| Some(Condition::Less(field("b"), SortKey::of([Some(&json!(b))])))),
        (0..3, 0..40).prop_map(|(a, b)| {
            let less = Condition::Less(field("b"), SortKey::of([Some(&json!(b))]));
            Some(Condition::And(vec![equals("a", &json!(a)), less]))
        }),
    ];
    let by = prop::sample::select(vec![None, Some("b"), Some("c.deep")]);
    let descending = any::<bool>();
    let window = prop::option::of((by, descending, 1..6_u32)).prop_map(|window| {
        let (by, descending, limit) = window?;
        let direction =
            if descending { OrderDirection::Descending } else { OrderDirection::Ascending };
        let limit = NonZeroU32::new(limit)?;
        Some(Span { order: Order { by: by.map(field), direction }, limit })
    });
    let one = prop::option::weighted(0.2, "[a-g]{1,2}");
    (condition, window, one).prop_map(|(condition, window, one)| Query {
        projection: name(),
        key: one.as_deref().map(key),
        condition: condition.map(Arc::new),
        window,
    })
}

#[derive(Debug, Clone)]
enum Happening {
    /// Documents change; whether it is known what they were.
    Step(Vec<(DocumentKey, Option<Value>)>, bool),
    /// The same, but the hub does not hear of it.
    Missed(Vec<(DocumentKey, Option<Value>)>),
    /// Readings of windows that are under way come back.
    Fill,
    /// A reader looks at its group's log.
    Pull(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let changes = || prop::collection::vec(change(), 1..6);
    prop_oneof![
        6 => (changes(), prop::bool::weighted(0.7)).prop_map(|(all, knows)| Happening::Step(all, knows)),
        1 => changes().prop_map(Happening::Missed),
        4 => Just(Happening::Fill),
        4 => (0..8_usize).prop_map(Happening::Pull),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_groups_tell_is_what_their_queries_select(
        first in prop::collection::vec(change(), 1..60),
        queries in prop::collection::vec(query(), 1..8),
        happenings in prop::collection::vec(happening(), 0..60),
        log_bytes_max in prop::sample::select(vec![2_000, 1 << 20]),
    ) {
        let (mut hub, mut world) = (hub(log_bytes_max), World::default());
        world.step(&first, true);
        let mut followers: Vec<_> =
            queries.iter().map(|query| Follower::sit(&mut hub, query)).collect();
        let mut wanting = hub.told(&name(), &LiveNews::From(reached(world.position)));
        // Readings that have begun, and what they will bring.
        let mut reading: Vec<(Wanting, Arc<WindowPage>)> = Vec::new();
        for happening in happenings.into_iter().chain([Happening::Fill, Happening::Fill]) {
            match happening {
                Happening::Step(changes, knows) => {
                    let batch = world.step(&changes, knows);
                    wanting.extend(hub.told(&name(), &LiveNews::Batch(batch)));
                }
                Happening::Missed(changes) => {
                    world.step(&changes, true);
                }
                Happening::Fill => {
                    for (wanting_one, page) in std::mem::take(&mut reading) {
                        wanting.extend(hub.filled(&wanting_one, &Ok(page)));
                    }
                }
                Happening::Pull(index) => {
                    let index = index % followers.len();
                    let follower = &mut followers[index];
                    if !follower.pull(&hub) {
                        follower.attach(&mut hub, &world);
                    }
                }
            }
            reading.extend(wanting.drain(..).map(|wanting| {
                let page = world.fill(&wanting.query);
                (wanting, page)
            }));
        }
        // Whatever was missed is made up for, and every reading comes back.
        wanting.extend(hub.told(&name(), &LiveNews::From(reached(world.position))));
        for _ in 0..4 {
            for (wanting_one, page) in std::mem::take(&mut reading) {
                wanting.extend(hub.filled(&wanting_one, &Ok(page)));
            }
            reading.extend(wanting.drain(..).map(|wanting| {
                let page = world.fill(&wanting.query);
                (wanting, page)
            }));
        }
        prop_assert!(reading.is_empty(), "windows that are never filled");
        for follower in &mut followers {
            if !follower.pull(&hub) {
                follower.attach(&mut hub, &world);
                prop_assert!(follower.pull(&hub), "{:?} cannot attach", follower.query);
            }
            prop_assert_eq!(
                &follower.client.0, &world.selected(&follower.query), "{:?}", follower.query
            );
            prop_assert_eq!(hub.scanned(follower.seat), at(world.position));
        }
        let left: Vec<_> =
            followers.iter().filter_map(|follower| hub.leave(follower.seat)).collect();
        prop_assert_eq!(left, [name()], "the last one ends it");
        prop_assert_eq!(hub.log_bytes, 0);
    }
}

#[test]
fn a_change_wakes_only_those_whom_it_concerns() {
    let (mut hub, mut world) = (hub(1 << 20), World::default());
    let reader = |hub: &mut LiveHub<Reader>, query: Query| {
        let member = Rc::<Reader>::default();
        hub.join(live_key(query), member.clone());
        member
    };
    let all = reader(&mut hub, Query::all(name()));
    let mine = reader(&mut hub, Query { key: Some(key("mine")), ..Query::all(name()) });
    let other = reader(&mut hub, Query { key: Some(key("other")), ..Query::all(name()) });
    let condition = Some(Arc::new(equals("a", &json!(7))));
    let seven = reader(&mut hub, Query { condition, ..Query::all(name()) });
    hub.told(&name(), &LiveNews::From(reached(0)));
    let wakes = || [&all, &mine, &other, &seven].map(|reader| reader.0.take());
    wakes();
    for (change, expected) in [
        (json!({"a": 1}), [1, 1, 0, 0]),
        (json!({"a": 7}), [1, 1, 0, 1]),
        (json!({"a": 8}), [1, 1, 0, 1]),
        (json!({"a": 9}), [1, 1, 0, 0]),
    ] {
        let batch = world.step(&[(key("mine"), Some(change.clone()))], true);
        hub.told(&name(), &LiveNews::Batch(batch));
        assert_eq!(wakes(), expected, "{change}");
    }
}

#[test]
fn a_swap_begins_another_era_and_is_not_counted_twice() {
    let mut hub = hub(1 << 20);
    let (seat, follows) = hub.join(live_key(Query::all(name())), Rc::default());
    assert!(follows);
    hub.told(&name(), &LiveNews::From(reached(5)));
    let next = Reached { generation: Generation::new(2), position: at(9) };
    // A reader finds out before the worker is told.
    hub.learn(&name(), next);
    let era = hub.era(seat);
    assert!(matches!(hub.attach(seat, reached(5)), Attached::Elsewhere(_)));
    assert!(matches!(hub.attach(seat, next), Attached::At(_)));
    hub.told(&name(), &LiveNews::Swapped(next));
    assert_eq!(hub.era(seat), era, "it was known");
    hub.told(&name(), &LiveNews::Swapped(next));
    assert_eq!(hub.era(seat), era + 1, "the log went back: everything is read anew");
}

#[test]
fn a_hole_and_a_batch_that_says_nothing_send_readers_to_the_store() {
    let mut hub = hub(1 << 20);
    let (seat, _) = hub.join(live_key(Query::all(name())), Rc::default());
    hub.told(&name(), &LiveNews::From(reached(5)));
    let Attached::At(mut cursor) = hub.attach(seat, reached(5)) else { panic!("it attaches") };
    let nothing =
        ChangeBatch { generation: FIRST, after: at(9), position: at(9), changes: Vec::new() };
    hub.told(&name(), &LiveNews::Batch(Arc::new(nothing)));
    assert!(matches!(hub.next(seat, &mut cursor, at(5)), Next::Fallen));
    assert!(matches!(hub.attach(seat, reached(8)), Attached::Behind));
    assert!(matches!(hub.attach(seat, reached(9)), Attached::At(_)));
}
