//! A client core, a clock that a test moves by hand, and a server that says what the test says.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidewire_eventstore::{EventId, EventType, ExpectedRevision, NewEvent, StreamName};
use tidewire_protocol::{
    After, AppendRequest, FeedSpec, Sub, Target,
    client::{ClientConfig, ClientCore, ClientInput, ClientOutput, State},
};
use uuid::Uuid;

pub(crate) const EPOCH: &str = "00000000-0000-0000-0000-000000000001";

pub(crate) struct Scene {
    pub(crate) core: ClientCore,
    pub(crate) now: Instant,
}

impl Scene {
    pub(crate) fn new(config: ClientConfig) -> Self {
        let now = Instant::now();
        let mut core = ClientCore::new(config, now);
        core.connect(now);
        let mut scene = Self { core, now };
        let out = scene.poll();
        assert_eq!(out, [ClientOutput::State(State::Connecting), ClientOutput::Connect]);
        scene
    }

    pub(crate) fn connected() -> Self {
        let mut scene = Self::new(ClientConfig::default());
        scene.hand_in(ClientInput::Opened);
        scene.says(welcome(1 << 20, 2));
        scene
    }

    pub(crate) fn hand_in(&mut self, input: ClientInput) -> Vec<ClientOutput> {
        self.core.handle(input, self.now, 0.0);
        self.poll()
    }

    pub(crate) fn says(&mut self, message: Value) -> Vec<ClientOutput> {
        self.hand_in(ClientInput::Text(message.to_string().into()))
    }

    pub(crate) fn poll(&mut self) -> Vec<ClientOutput> {
        std::iter::from_fn(|| self.core.poll()).collect()
    }

    pub(crate) fn subscribe(&mut self) -> Sub {
        let feed = FeedSpec::of(Target::All);
        self.core.subscribe(feed, After::Start, None)
    }

    /// Jumps to the next timer and lets it fire.
    pub(crate) fn wake(&mut self) -> (Duration, Vec<ClientOutput>) {
        let at = self.core.next_timeout().expect("a timer runs");
        let waited = at.saturating_duration_since(self.now);
        self.now = self.now.max(at);
        (waited, self.hand_in(ClientInput::Timeout))
    }
}

pub(crate) fn welcome(message_bytes: u64, requests: u64) -> Value {
    json!({"type": "welcome", "session": EPOCH, "node": "a", "epoch": EPOCH, "head": 3,
        "heartbeat_ms": 15000, "limits": {"message_bytes": message_bytes, "array_messages": 64,
        "subscriptions": 9, "requests": requests, "append_events": 9, "page_events": 9, "window": 16},
        "reconnect": {"min_ms": 1, "max_ms": 1, "spread_ms": 1}})
}

pub(crate) fn append(id: u128) -> AppendRequest {
    let event_type = EventType::new("T").expect("a name");
    let id = (id > 0).then(|| EventId::from(Uuid::from_u128(id)));
    AppendRequest {
        stream: StreamName::new("s").expect("a name"),
        expected: ExpectedRevision::Any,
        events: vec![NewEvent { id, ..NewEvent::json(event_type, "1") }],
    }
}

/// The messages among what is to be done.
pub(crate) fn sent(outputs: &[ClientOutput]) -> Vec<Value> {
    let text = |output: &ClientOutput| match output {
        ClientOutput::Send(text) => Some(serde_json::from_slice(text).expect("JSON")),
        _ => None,
    };
    outputs.iter().filter_map(text).collect()
}
