//! A live query by hand: what a client holds that does as the protocol says.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use super::{Api, PATIENCE, socket::Socket};

/// How long a message may take before somebody looks at the deadline again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A live query and what it holds.
pub(crate) struct Live {
    socket: Socket,
    /// What it shows, by key.
    pub(crate) shown: BTreeMap<String, Value>,
    /// A state that is not complete yet.
    aside: Option<BTreeMap<String, Value>>,
    /// The last position that it was told.
    pub(crate) position: u64,
    /// The generation of what it shows.
    pub(crate) generation: u64,
    /// Whether it was told that it has everything.
    pub(crate) is_live: bool,
    /// Complete states that it was given.
    pub(crate) states: u64,
    /// Why, for those after the first.
    pub(crate) resets: Vec<String>,
}

impl Live {
    /// Subscribes, and waits until the first state is there.
    pub(crate) fn subscribe(api: &Api, to: &Value) -> Self {
        let mut socket = Socket::connect(api);
        socket.send(&json!({"type": "subscribe", "sub": 1, "to": to}));
        let mut live = Self {
            socket,
            shown: BTreeMap::new(),
            aside: None,
            position: 0,
            generation: 0,
            is_live: false,
            states: 0,
            resets: Vec::new(),
        };
        live.wait_until("the query is live", |live| live.is_live);
        live
    }

    /// Takes messages until a condition holds.
    pub(crate) fn wait_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}: {:?}", self.shown);
            if let Some(message) = self.socket.next_within(LOOK_EVERY) {
                self.take(&message);
            }
        }
    }

    /// Takes what has arrived already.
    pub(crate) fn take_arrived(&mut self) {
        while let Some(message) = self.socket.next_within(Duration::from_millis(1)) {
            self.take(&message);
        }
    }

    fn take(&mut self, message: &Value) {
        match message["type"].as_str().unwrap() {
            "state" => self.take_state(message),
            "changes" => self.take_changes(message),
            "live" => {
                self.is_live = true;
                self.advance(message);
            }
            "behind" => self.is_live = false,
            "error" | "unsubscribed" | "goodbye" => panic!("{message}"),
            _ => {}
        }
    }

    fn take_state(&mut self, message: &Value) {
        if let Some(reason) = message["reset"].as_str() {
            self.resets.push(reason.to_owned());
            self.aside = None;
        }
        let aside = self.aside.get_or_insert_default();
        for document in message["documents"].as_array().unwrap() {
            let key = document["key"].as_str().unwrap().to_owned();
            aside.insert(key, document["document"].clone());
        }
        if message["more"] != Value::Bool(true) {
            self.shown = self.aside.take().expect("it was begun");
            self.states += 1;
            self.generation = message["generation"].as_u64().unwrap();
            self.position = message["position"].as_u64().unwrap();
        }
    }

    fn take_changes(&mut self, message: &Value) {
        let held = self.aside.as_mut().unwrap_or(&mut self.shown);
        for change in message["changes"].as_array().unwrap() {
            let key = change["key"].as_str().unwrap().to_owned();
            match change["op"].as_str().unwrap() {
                "put" => {
                    held.insert(key, change["document"].clone());
                }
                "patch" => {
                    let document = held.get_mut(&key);
                    let document = document.unwrap_or_else(|| panic!("no {key} to patch"));
                    merge(document, &change["patch"]);
                }
                "delete" => {
                    held.remove(&key);
                }
                other => panic!("no such change: {other}"),
            }
        }
        self.advance(message);
    }

    fn advance(&mut self, message: &Value) {
        let position = message["position"].as_u64().unwrap();
        assert!(position >= self.position, "{} and then {message}", self.position);
        self.position = position;
    }
}

/// A merge patch (RFC 7396, section 2).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let members = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
