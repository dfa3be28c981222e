//! Things: a projection for tests, whose events say outright what becomes of a document, and a
//! client that keeps the documents of a live query as PROTOCOL.md says.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use serde_json::{Map, Value, json};
use tidewire_eventstore::{
    Append, Category, DocumentKey, EventStore, EventType, ExpectedRevision, NewEvent, Payload,
    ProjectionName, RecordedEvent, StreamName, Target,
};
use tidewire_projections::{Builder, Definition, Documents, Index, ProjectError, Projection};
use tidewire_protocol::query::FieldPath;

use super::Client;

/// The projection: each event has a key and, unless the document goes, what it is.
pub struct Things(Definition);

fn field(path: &str) -> FieldPath {
    FieldPath::new(path).expect("a good path")
}

impl Things {
    pub fn of_version(version: u32) -> Self {
        let index = |fields: &[&str]| Index { fields: fields.iter().map(|p| field(p)).collect() };
        Self(Definition {
            name: ProjectionName::new("things").expect("a good name"),
            version,
            target: Target::Category(Category::new("thing").expect("a good name")),
            types: Vec::new(),
            fields: vec![field("size")],
            indexes: vec![index(&["box", "at"]), index(&["at"])],
        })
    }

    /// Prepares a node to run it.
    pub fn add(builder: Builder) -> Builder {
        let mut config = tidewire_projections::Config::default();
        config.poll = std::time::Duration::from_millis(50);
        config.checkpoint_delay = std::time::Duration::from_millis(10);
        let policy = tidewire_projections::Policy::default();
        builder.projection(Arc::new(Self::of_version(1)), policy).config(config)
    }

    fn data(event: &RecordedEvent) -> Result<Value, ProjectError> {
        let Payload::Json(data) = &event.payload else { return Ok(Value::Null) };
        serde_json::from_slice(data)
            .map_err(|error| ProjectError::EventUnreadable { reason: error.to_string() })
    }
}

impl Projection for Things {
    fn definition(&self) -> &Definition {
        &self.0
    }

    fn keys(&self, event: &RecordedEvent, keys: &mut Vec<DocumentKey>) -> Result<(), ProjectError> {
        let data = Self::data(event)?;
        let key = data["key"].as_str().and_then(|key| DocumentKey::new(key).ok());
        let reason = "it has no key".to_owned();
        keys.push(key.ok_or(ProjectError::EventUnreadable { reason })?);
        Ok(())
    }

    fn project(
        &self,
        event: &RecordedEvent,
        documents: &mut Documents<'_>,
    ) -> Result<(), ProjectError> {
        let data = Self::data(event)?;
        let key = data["key"].as_str().and_then(|key| DocumentKey::new(key).ok());
        let key = key.expect("it was looked at before");
        match &data["document"] {
            Value::Null => documents.delete(&key),
            document => documents.put(&key, document.clone()),
        }
    }
}

/// What the documents are to be, by key.
pub type All = BTreeMap<String, Value>;

/// Numbers that look random, from a seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// Changes `count` things in one append, at random; returns the last position.
pub async fn change(
    store: &Arc<dyn EventStore>,
    dice: &mut Dice,
    count: usize,
    all: &mut All,
) -> u64 {
    let mut events = Vec::new();
    for _ in 0..count {
        let key = format!("t{}", dice.roll(40));
        let document = (dice.roll(5) > 0).then(|| {
            let text = "x".repeat(dice.roll(120) as usize);
            json!({
                "box": format!("b{}", dice.roll(3)),
                "at": dice.roll(30),
                "size": dice.roll(100),
                "text": text,
            })
        });
        events.push(event(&key, document.as_ref()));
        match document {
            Some(document) => all.insert(key, document),
            None => all.remove(&key),
        };
    }
    append(store, events).await
}

/// Makes one document what it is to be; returns the event's position.
pub async fn put(store: &Arc<dyn EventStore>, key: &str, document: Option<&Value>) -> u64 {
    append(store, vec![event(key, document)]).await
}

/// Makes many documents the same; returns the last event's position.
pub async fn put_all(store: &Arc<dyn EventStore>, keys: &[String], document: &Value) -> u64 {
    let mut position = 0;
    for keys in keys.chunks(500) {
        let events = keys.iter().map(|key| event(key, Some(document))).collect();
        position = append(store, events).await;
    }
    position
}

fn event(key: &str, document: Option<&Value>) -> NewEvent {
    let data = json!({ "key": key, "document": document }).to_string();
    NewEvent::json(EventType::new("Became").expect("a good name"), data)
}

async fn append(store: &Arc<dyn EventStore>, events: Vec<NewEvent>) -> u64 {
    let stream = StreamName::new("thing-1").expect("a good name");
    let append = Append { stream, expected: ExpectedRevision::Any, events };
    let pending = store.append(append).expect("a good append");
    pending.await.expect("a recorded append").position.get()
}

/// A query, as `to` of `subscribe`, and what it selects.
pub type Asked = (Value, fn(&All) -> All);

/// The queries that the tests ask.
pub fn queries() -> &'static [Asked] {
    static QUERIES: OnceLock<Vec<Asked>> = OnceLock::new();
    QUERIES.get_or_init(|| {
        let to = |more: Value| {
            let mut to = json!({ "projection": "things" });
            for (name, value) in more.as_object().expect("an object") {
                to[name] = value.clone();
            }
            to
        };
        vec![
            (to(json!({})), |all| all.clone()),
            (to(json!({ "key": "t7" })), |all| filter(all, |key, _| key == "t7")),
            (to(json!({ "where": { "eq": ["box", "b1"] } })), |all| {
                filter(all, |_, value| value["box"] == "b1")
            }),
            (
                to(json!({ "where": { "and": [
                    { "gte": ["size", 30] }, { "not": { "eq": ["box", "b0"] } },
                ] } })),
                |all| filter(all, |_, v| v["size"].as_u64() >= Some(30) && v["box"] != "b0"),
            ),
            (
                to(json!({ "order": { "by": "at", "direction": "descending" }, "limit": 5 })),
                |all| newest(all.clone(), 5),
            ),
            (
                to(json!({
                    "where": { "eq": ["box", "b2"] },
                    "order": { "by": "at", "direction": "descending" }, "limit": 3,
                })),
                |all| newest(filter(all, |_, value| value["box"] == "b2"), 3),
            ),
            (to(json!({ "limit": 4 })), |all| all.clone().into_iter().take(4).collect()),
        ]
    })
}

fn filter(all: &All, keep: impl Fn(&str, &Value) -> bool) -> All {
    let all = all.iter().filter(|(key, value)| keep(key, value));
    all.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn newest(all: All, count: usize) -> All {
    let mut ranked: Vec<_> = all.into_iter().collect();
    ranked.sort_by_key(|(key, value)| (std::cmp::Reverse(value["at"].as_u64()), key.clone()));
    ranked.into_iter().take(count).collect()
}

/// The documents of one live query, as its client has them.
#[derive(Debug, Default, Clone)]
pub struct View {
    /// The last whole picture, and what came on top of it.
    pub documents: All,
    /// The state that is being told; whether more of it follows.
    building: Option<(All, bool)>,
    pub live: bool,
    pub generation: u64,
    pub position: u64,
    /// Why states were told again.
    pub resets: Vec<String>,
    pub resumed: bool,
    pub behind: usize,
    pub patches: usize,
}

impl View {
    /// What `subscribe` says to go on from here.
    pub fn subscribe(&self, sub: u64, to: &Value) -> Value {
        let mut subscribe = json!({ "type": "subscribe", "sub": sub, "to": to });
        if self.generation > 0 {
            subscribe["after"] = json!(self.position);
            subscribe["generation"] = json!(self.generation);
        }
        subscribe
    }

    /// The connection is gone: what was not whole yet is forgotten.
    pub fn cut(&mut self) {
        self.building = None;
        self.live = false;
    }

    /// Takes a message about this query.
    pub fn take(&mut self, message: &Value) {
        let number = |name: &str| message[name].as_u64().expect("a number");
        let reset = message["reset"].as_str().map(str::to_owned);
        match message["type"].as_str().expect("a type") {
            "subscribed" => {
                self.resumed = message["resumed"] == true;
                self.resets.extend(reset);
            }
            "state" => {
                let goes_on = self.building.as_ref().is_some_and(|(_, more)| *more);
                assert!(!self.live, "a state only for who is not live: {message}");
                if reset.is_some() || !goes_on {
                    self.building = Some((All::new(), true));
                }
                self.resets.extend(reset);
                let (all, more) = self.building.as_mut().expect("it was begun");
                for document in message["documents"].as_array().expect("a list") {
                    let key = document["key"].as_str().expect("a key").to_owned();
                    assert!(all.insert(key, document["document"].clone()).is_none(), "{message}");
                }
                *more = message["more"] == true;
                if !self.resumed || !self.resets.is_empty() {
                    self.generation = number("generation");
                }
            }
            "changes" => {
                if self.live {
                    assert!(number("position") > self.position, "{message}");
                }
                let all = match &mut self.building {
                    Some((all, more)) => {
                        assert!(!*more, "the state first: {message}");
                        all
                    }
                    None => &mut self.documents,
                };
                for change in message["changes"].as_array().expect("a list") {
                    let key = change["key"].as_str().expect("a key").to_owned();
                    match change["op"].as_str().expect("an operation") {
                        "put" => drop(all.insert(key, change["document"].clone())),
                        "delete" => drop(all.remove(&key)),
                        _ => {
                            assert!(self.live, "patches only for who is live: {message}");
                            self.patches += 1;
                            let held = all.get_mut(&key).expect("only what is held is patched");
                            merge(held, &change["patch"]);
                        }
                    }
                }
                if message["more"] != true && self.building.is_none() {
                    self.position = number("position");
                }
            }
            "live" => {
                if let Some((all, more)) = self.building.take() {
                    assert!(!more, "a whole state");
                    self.documents = all;
                }
                self.live = true;
                self.position = number("position");
            }
            "behind" => {
                self.live = false;
                self.behind += 1;
            }
            other => panic!("{other}: {message}"),
        }
    }
}

/// Merges as RFC 7396 has it.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let members = target.as_object_mut().expect("it is one now");
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Takes messages for the queries of one connection until each is live and has come to
/// `position`.
pub async fn settle(client: &mut Client, views: &mut [View], position: u64) {
    let done = |view: &View| view.live && view.position >= position;
    while !views.iter().all(done) {
        take_one(client, views).await;
    }
}

/// Takes one message for the queries of one connection.
pub async fn take_one(client: &mut Client, views: &mut [View]) {
    let message = client.message().await;
    if message["type"] == "heartbeat" {
        for (sub, position) in message["positions"].as_object().into_iter().flatten() {
            let sub: usize = sub.parse().expect("a handle");
            let position = position.as_u64().expect("a position");
            let view = &mut views[sub - 1];
            if view.live {
                view.position = view.position.max(position);
            }
        }
        return;
    }
    let sub = message["sub"].as_u64().unwrap_or_else(|| panic!("{message}")) as usize;
    views[sub - 1].take(&message);
}
