//! A session with one client, a log that is made up as it is read, and a clock that jumps.
//!
//! What the session says and asks for is noted down as short texts, so that a test reads as the
//! conversation it is about.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tidewire_eventstore::{
    EventId, EventType, GlobalPosition, Payload, RecordedEvent, Revision, StreamHash, StreamName,
    Timestamp,
};
use tidewire_protocol::{
    Activity, Epoch, EventRef, Grant, GrantedPartition, Input, Moment, Offer, Output, Progress,
    Sent, Session, SessionConfig, SessionId, SessionInfo, Sub,
    frame::{FrameDecoder, FrameLimits, Message},
};
use uuid::Uuid;

/// The subscription that scenes are about.
pub(crate) const SUB: Sub = Sub::new(1);

/// The head of the log when a scene begins.
pub(crate) const HEAD: u64 = 100;

pub(crate) struct Scene {
    pub(crate) session: Session,
    pub(crate) now: Instant,
    /// Whether events that the session asks for are read at once.
    pub(crate) reads: bool,
    /// Whether the client answers pings, as every WebSocket does by itself.
    pub(crate) answers: bool,
    /// The stream of each event that was offered or is to be replayed.
    streams: Vec<(u64, &'static str)>,
}

impl Scene {
    /// A session that has said hello.
    pub(crate) fn new() -> Self {
        Self::with(SessionConfig::default())
    }

    pub(crate) fn with(config: SessionConfig) -> Self {
        let now = Instant::now();
        let session = session(config, now);
        let mut scene = Self { session, now, reads: true, answers: true, streams: Vec::new() };
        scene.say(r#"{"type":"hello","protocol":1}"#);
        scene
    }

    /// A session with a subscription that acknowledges, after position 0.
    pub(crate) fn acking(window: usize) -> Self {
        let mut scene = Self::new();
        let said = scene.say(&format!(
            r#"{{"type":"subscribe","sub":1,"to":{{"all":true}},"after":0,"ack":"each","window":{window}}}"#
        ));
        assert_eq!(said, ["subscribed after 0, resumed", "open after 0"]);
        scene
    }

    /// A session that was given an exclusive consumer with its checkpoint at `checkpoint`.
    pub(crate) fn consuming(checkpoint: u64) -> Self {
        let mut scene = Self::new();
        scene.claim(r#""billing""#);
        scene.grant(whole(checkpoint));
        scene
    }

    /// Subscribes to a consumer with a window of 8.
    pub(crate) fn claim(&mut self, consumer: &str) -> Vec<String> {
        self.say(&format!(
            r#"{{"type":"subscribe","sub":1,"to":{{"all":true}},"consumer":{consumer},"window":8}}"#
        ))
    }

    pub(crate) fn grant(&mut self, partition: GrantedPartition) -> Vec<String> {
        let grant = Grant { existed: true, partitions: vec![partition] };
        self.hand_in(Input::Claimed { sub: SUB, claimed: Ok(grant) })
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { now: self.now, head: at(HEAD), removed: at(0) }
    }

    pub(crate) fn hand_in(&mut self, input: Input) -> Vec<String> {
        self.session.handle(input, self.moment());
        self.polled()
    }

    /// What the session says and asks for.
    pub(crate) fn polled(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) | Output::Pong(bytes) => {
                    if self.answers {
                        for pong in pongs(&bytes) {
                            self.session.handle(Input::Message(pong), self.moment());
                        }
                    }
                    said.extend(texts(&bytes));
                }
                Output::Open { after, .. } => said.push(format!("open after {after}")),
                Output::Shut { .. } => said.push("shut".to_owned()),
                Output::Claim { claim, .. } => {
                    said.push(format!("claim {} after {}", claim.consumer.name, claim.after));
                }
                Output::Save { progress, .. } => said.push(format!("save{}", show(&progress))),
                Output::Release { progress, clean, .. } => {
                    let how = if clean { "clean" } else { "unclean" };
                    said.push(format!("release {how}{}", show(&progress)));
                }
                Output::Read { position, .. } if self.reads => {
                    let event = Ok(Some(Box::new(self.event(position.get()))));
                    let read = Input::Read { sub: SUB, position, event };
                    self.session.handle(read, self.moment());
                }
                Output::Read { position, .. } => said.push(format!("read {position}")),
                Output::Positions => said.push("positions".to_owned()),
                Output::Close { code } => said.push(format!("close {code}")),
                Output::RoundTrip(_) => {}
                other => said.push(format!("{other:?}")),
            }
        }
        said
    }

    pub(crate) fn event(&self, position: u64) -> RecordedEvent {
        let stream = self.streams.iter().rfind(|(of, _)| *of == position).map_or("a", |(_, s)| s);
        event(position, stream)
    }

    pub(crate) fn say(&mut self, text: &str) -> Vec<String> {
        self.hand_in(Input::Message(Message::Text(Bytes::copy_from_slice(text.as_bytes()))))
    }

    pub(crate) fn ack(&mut self, position: u64) -> Vec<String> {
        self.say(&format!(r#"{{"type":"ack","sub":1,"position":{position}}}"#))
    }

    /// A nack; `rest` is what follows the positions.
    pub(crate) fn nack(&mut self, positions: &[u64], rest: &str) -> Vec<String> {
        self.say(&format!(r#"{{"type":"nack","sub":1,"positions":{positions:?},{rest}}}"#))
    }

    /// A nack with a retry after a delay, and what follows its answer.
    pub(crate) fn retry_in(&mut self, positions: &[u64], delay_ms: u64) -> Vec<String> {
        let mut said = self.nack(positions, &format!(r#""action":"retry","delay_ms":{delay_ms}"#));
        said.retain(|said| !said.starts_with("retrying"));
        said
    }

    /// A nack with a retry at once, and what follows its answer.
    pub(crate) fn retry(&mut self, positions: &[u64]) -> Vec<String> {
        self.retry_in(positions, 0)
    }

    /// Offers events, each with its stream.
    pub(crate) fn offer(&mut self, events: &[(u64, &'static str)]) -> Offer {
        self.streams.extend(events);
        let refs: Vec<EventRef> =
            events.iter().map(|(position, stream)| event_ref(*position, stream)).collect();
        self.session.offer(SUB, &refs, self.moment())
    }

    /// Offers events that all are taken and written, and accepted by the kernel.
    pub(crate) fn deliver(&mut self, events: &[(u64, &'static str)]) {
        let offer = self.offer(events);
        assert_eq!(offer, Offer { taken: events.len(), sent: Sent::All });
        self.accept();
    }

    pub(crate) fn accept(&mut self) {
        assert_eq!(self.hand_in(Input::Accepted), [""; 0]);
    }

    /// Lets time pass, waking the session whenever it wants to be woken. The socket accepts
    /// everything at once.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut said = Vec::new();
        let mut wakings = 0;
        while let Some(at) = self.session.next_timeout().filter(|at| *at <= end) {
            wakings += 1;
            assert!(wakings < 1000, "the session spins");
            self.now = self.now.max(at);
            let (inbound_at, progress_at) = (self.now, self.now);
            let activity = Activity { inbound_at, progress_at, unsent_bytes: 0 };
            said.extend(self.hand_in(Input::Timeout(activity)));
            said.extend(self.hand_in(Input::Accepted));
        }
        self.now = end;
        // Pings and heartbeats are not what scenes are about.
        said.retain(|said| !said.starts_with("ping") && said != "positions");
        said
    }

    /// How many of the window's places are free.
    pub(crate) fn room(&self) -> usize {
        self.session.room(SUB)
    }
}

/// A session that begins now.
pub(crate) fn session(config: SessionConfig, now: Instant) -> Session {
    let epoch = Epoch { epoch: Uuid::from_u128(1), first_position: at(1) };
    let info = SessionInfo {
        session: SessionId(Uuid::from_u128(9)),
        node: Arc::from("a"),
        epochs: [epoch].into(),
        opened_at: Timestamp::from_micros(1_000_000),
        bearer: None,
    };
    Session::new(config, info, Moment { now, head: at(HEAD), removed: at(0) })
}

pub(crate) fn at(position: u64) -> GlobalPosition {
    GlobalPosition::new(position)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn event_ref(position: u64, stream: &str) -> EventRef {
    let stream = StreamName::new(stream).expect("a good name");
    EventRef { position: at(position), stream: StreamHash::of(&stream) }
}

pub(crate) fn event(position: u64, stream: &str) -> RecordedEvent {
    RecordedEvent {
        position: at(position),
        stream: StreamName::new(stream).expect("a good name"),
        revision: Revision::new(position),
        event_type: EventType::new("T").expect("a good name"),
        id: EventId::from(Uuid::from_u128(u128::from(position))),
        recorded_at: Timestamp::from_micros(0),
        payload: Payload::Json(Bytes::from_static(b"{}")),
        meta: None,
    }
}

/// An exclusive consumer's one partition.
pub(crate) fn whole(checkpoint: u64) -> GrantedPartition {
    share(0, checkpoint)
}

pub(crate) fn share(partition: u8, checkpoint: u64) -> GrantedPartition {
    GrantedPartition {
        partition: tidewire_eventstore::Partition::new(partition).expect("below 64"),
        checkpoint: at(checkpoint),
        unclean: false,
        attempts: Vec::new(),
        replays: Vec::new(),
    }
}

/// ` p0@9`, then what was charged, parked and replayed, for each partition.
fn show(progress: &Progress) -> String {
    let mut text = String::new();
    for of in &progress.partitions {
        text += &format!(" p{}@{}", of.partition, of.checkpoint);
        for (position, charges) in &of.attempts {
            text += &format!(" {position}#{charges}");
        }
        for parked in &of.parked {
            text += &format!(" parked {}#{}: {}", parked.position, parked.attempts, parked.reason);
        }
        for position in &of.replayed {
            text += &format!(" replayed {position}");
        }
    }
    text
}

/// What a client answers to pings by itself.
pub(crate) fn pongs(bytes: &Bytes) -> Vec<Message> {
    let mut buf = BytesMut::from(&bytes[..]);
    let mut decoder = FrameDecoder::new(FrameLimits::client(1 << 20));
    let mut pongs = Vec::new();
    while let Some(message) = decoder.decode(&mut buf).expect("whole good frames") {
        if let Message::Ping(payload) = message {
            pongs.push(Message::Pong(payload));
        }
    }
    pongs
}

fn texts(bytes: &Bytes) -> Vec<String> {
    let mut buf = BytesMut::from(&bytes[..]);
    let mut decoder = FrameDecoder::new(FrameLimits::client(1 << 20));
    let mut said = Vec::new();
    while let Some(message) = decoder.decode(&mut buf).expect("whole good frames") {
        match message {
            Message::Text(text) => {
                said.extend(told(&serde_json::from_slice(&text).expect("JSON")));
            }
            // Pings are not what scenes are about.
            Message::Ping(_) => {}
            Message::Close(reason) => {
                said.push(format!("close frame {}", reason.expect("a reason").code));
            }
            other => panic!("{other:?} is not what scenes are about"),
        }
    }
    said
}

/// A message of the server as a short text.
fn told(message: &Value) -> Vec<String> {
    let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
    vec![match message["type"].as_str().expect("a type") {
        "events" => {
            let events = message["events"].as_array().expect("events").iter();
            return events
                .map(|event| match event["attempt"].as_u64() {
                    Some(attempt) => format!("event {}#{attempt}", event["position"]),
                    None => format!("event {}", event["position"]),
                })
                .collect();
        }
        "retrying" => format!("retrying {}", message["positions"]),
        "parked" => format!("parked {}: {}", message["positions"], text("reason")),
        "subscribed" if message["resumed"] == true => {
            format!("subscribed after {}, resumed", message["after"])
        }
        "subscribed" => format!("subscribed after {}", message["after"]),
        "unsubscribed" => format!("unsubscribed {}", text("code")).trim_end().to_owned(),
        "error" if message["code"] == "unknown_position" => {
            format!("error unknown_position {}", message["details"]["positions"])
        }
        "error" => format!("error {}", text("code")),
        "heartbeat" => format!("heartbeat {}", message["positions"]["1"]),
        "live" | "behind" => format!("{} {}", text("type"), message["position"]),
        kind => kind.to_owned(),
    }]
}
