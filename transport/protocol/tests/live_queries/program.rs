//! The client's end: the real client core, and a program that checks every picture and every
//! count that it is given.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tidewire_eventstore::{DocumentKey, EventType, GlobalPosition};
use tidewire_protocol::{
    After, Batch, CloseCode, FeedSpec, Filter, QueryReset, Sub, Summary, SummaryWindow, Target,
    backoff::Backoff,
    client::{ClientConfig, ClientCore, ClientInput, ClientOutput, Notice, Told},
    frame::{self, FrameDecoder, FrameLimits, Message, Opcode},
    query::{Query, Reached, WrittenQuery},
};

use crate::{chance::Chance, feeds::passes, link::Pipe, projection::Projection, world::Tally};

/// What a program has seen of one live query.
struct View {
    query: Query,
    reached: Option<Reached>,
    documents: BTreeMap<DocumentKey, Bytes>,
    live: bool,
}

/// What a program has counted.
struct Counts {
    filter: Option<Arc<Filter>>,
    summary: Summary,
    begin: Option<GlobalPosition>,
    through: GlobalPosition,
    counted: u64,
}

pub(crate) struct Program {
    pub(crate) core: ClientCore,
    decoder: FrameDecoder,
    read: BytesMut,
    views: BTreeMap<Sub, View>,
    counts: BTreeMap<Sub, Counts>,
    pub(crate) wants_connection: bool,
    pub(crate) wants_close: bool,
    pub(crate) tally: Tally,
}

fn queries() -> Vec<Query> {
    [
        json!({}),
        json!({"key": "k03"}),
        json!({"where": {"eq": ["tag", "a"]}}),
        json!({"where": {"and": [{"gt": ["n", 4]}, {"exists": "extra.deep"}]}}),
        json!({"limit": 3}),
        json!({"order": {"by": "n", "direction": "descending"}, "limit": 4}),
        json!({"where": {"in": ["tag", ["a", "b"]]}, "order": {"by": "n"}, "limit": 5}),
    ]
    .into_iter()
    .map(|mut query: Value| {
        query["projection"] = json!("things");
        WrittenQuery::parse(&query).and_then(WrittenQuery::live).expect("a good query")
    })
    .collect()
}

impl Program {
    pub(crate) fn new(now: Instant, chance: &mut Chance) -> Self {
        let config = ClientConfig {
            backoff: Backoff { max: Duration::from_secs(2), ..Backoff::default() },
            connect_timeout: Duration::from_secs(2),
            stable_after: Duration::from_secs(1),
            ping_timeout: Duration::from_secs(1),
            ..ClientConfig::default()
        };
        let mut program = Self {
            core: ClientCore::new(config, now),
            decoder: FrameDecoder::new(FrameLimits::client(1 << 24)),
            read: BytesMut::new(),
            views: BTreeMap::new(),
            counts: BTreeMap::new(),
            wants_connection: false,
            wants_close: false,
            tally: Tally::default(),
        };
        program.core.connect(now);
        for query in queries() {
            program.watch(query);
        }
        let odd = [EventType::new("Odd").expect("a good name")];
        program.count(None, Summary::Events(chance.within(1, 20) as u32));
        program.count(Some(Filter::types(&odd)), Summary::Millis(chance.within(100, 900) as u32));
        program
    }

    fn watch(&mut self, query: Query) {
        let sub = self.core.watch(query.clone());
        let documents = BTreeMap::new();
        self.views.insert(sub, View { query, reached: None, documents, live: false });
    }

    fn count(&mut self, filter: Option<Filter>, summary: Summary) {
        let filter = filter.map(Arc::new);
        let batch = Batch { summary: Some(summary), ..Batch::default() };
        let feed = FeedSpec { filter: filter.clone(), batch, ..FeedSpec::of(Target::All) };
        let sub = self.core.subscribe(feed, After::Start, None);
        let through = GlobalPosition::START;
        let counts = Counts { filter, summary, begin: None, through, counted: 0 };
        self.counts.insert(sub, counts);
    }

    /// Ends one live query and begins a like one.
    pub(crate) fn rewatch(&mut self, now: Instant, chance: &mut Chance) {
        let at = chance.within(0, self.views.len() as u64 - 1) as usize;
        let sub = *self.views.keys().nth(at).expect("it is within");
        self.core.unsubscribe(sub, now);
        let view = self.views.remove(&sub).expect("it is there");
        self.watch(view.query);
    }

    pub(crate) fn opened(&mut self, now: Instant, chance: &mut Chance) {
        self.decoder = FrameDecoder::new(FrameLimits::client(1 << 24));
        self.read = BytesMut::new();
        self.core.handle(ClientInput::Opened, now, chance.unit());
    }

    pub(crate) fn lost(&mut self, code: CloseCode, now: Instant, chance: &mut Chance) {
        self.views.values_mut().for_each(|view| view.live = false);
        self.core.handle(ClientInput::Lost(code), now, chance.unit());
    }

    /// Whether every picture is the present one as far as this program knows.
    pub(crate) fn is_live(&self) -> bool {
        self.views.values().all(|view| view.live)
    }

    /// Takes in bytes; the close code, if the server has said one.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Pipe,
        now: Instant,
        chance: &mut Chance,
    ) -> Option<CloseCode> {
        self.read.extend_from_slice(bytes);
        while let Some(message) = self.decoder.decode(&mut self.read).expect("a strict server") {
            let input = match message {
                Message::Text(text) => ClientInput::Text(text),
                Message::Ping(payload) => {
                    write(Opcode::Pong, &payload, out, chance);
                    ClientInput::Heard
                }
                Message::Close(reason) => {
                    write(Opcode::Close, b"", out, chance);
                    return Some(reason.map_or(CloseCode::NO_STATUS, |reason| reason.code));
                }
                other => panic!("the server sent {other:?}"),
            };
            self.core.handle(input, now, chance.unit());
        }
        None
    }

    /// Does everything that can be done now.
    pub(crate) fn pump(
        &mut self,
        projection: &mut Projection,
        mut out: Option<&mut Pipe>,
        now: Instant,
        chance: &mut Chance,
    ) {
        if self.core.next_timeout().is_some_and(|at| at <= now) {
            self.core.handle(ClientInput::Timeout, now, chance.unit());
        }
        while let Some(output) = self.core.poll() {
            match output {
                ClientOutput::Connect => {
                    self.wants_connection = true;
                    out = None;
                }
                ClientOutput::Disconnect(code) => {
                    // Only silence makes this client give up a connection: it has found no
                    // nonsense in what a sound server says.
                    assert!(code == CloseCode::NO_PONG || self.is_connecting(), "nonsense");
                    self.wants_close = true;
                    self.views.values_mut().for_each(|view| view.live = false);
                    out = None;
                }
                ClientOutput::Send(text) => {
                    if let Some(out) = &mut out {
                        write(Opcode::Text, &text, out, chance);
                    }
                }
                ClientOutput::Documents { sub, told } => self.told(sub, told, projection),
                ClientOutput::Notice { sub, notice } => self.notice(sub, notice, projection),
                ClientOutput::State(_) | ClientOutput::Welcome(_) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    fn is_connecting(&self) -> bool {
        use tidewire_protocol::client::State;
        matches!(self.core.state(), State::Connecting | State::Reconnecting { .. })
    }

    fn told(&mut self, sub: Sub, told: Told, projection: &mut Projection) {
        let view = self.views.get_mut(&sub).expect("nothing after unsubscribe");
        let reached = match told {
            Told::Picture { reached, documents } => {
                self.tally.pictures += 1;
                view.documents = BTreeMap::clone(&documents);
                reached
            }
            Told::Changes { reached, changes } => {
                self.tally.changes += 1;
                for (key, document) in changes {
                    match document {
                        Some(document) => drop(view.documents.insert(key, document)),
                        None => drop(view.documents.remove(&key)),
                    }
                }
                reached
            }
        };
        view.reached = Some(reached);
        view.assert_true(reached, projection);
    }

    fn notice(&mut self, sub: Sub, notice: Notice, projection: &mut Projection) {
        if let Some(view) = self.views.get_mut(&sub) {
            match notice {
                Notice::Live(position) | Notice::Position(position) => {
                    view.live |= matches!(notice, Notice::Live(_));
                    if let Some(reached) = view.reached.as_mut().filter(|_| view.live) {
                        // What is shown is still true at the later position.
                        reached.position = position.max(reached.position);
                        let reached = *reached;
                        view.assert_true(reached, projection);
                    }
                }
                Notice::Behind { .. } => {
                    self.tally.behind += 1;
                    view.live = false;
                }
                Notice::Watching { resumed: true, .. } => self.tally.resumed += 1,
                Notice::Watching { reset: Some(reset), .. } => self.tally.reset(reset),
                Notice::Watching { .. } => {}
                Notice::Restated(reset) => {
                    view.live = false;
                    match reset {
                        QueryReset::Generation => self.tally.swapped += 1,
                        _ => self.tally.restated += 1,
                    }
                }
                other => panic!("of a live query: {other:?}"),
            }
        } else if let Some(counts) = self.counts.get_mut(&sub) {
            match notice {
                Notice::Summary(summary) => {
                    self.tally.summaries += 1;
                    counts.take(&summary, projection);
                }
                Notice::Subscribed { after, .. } => drop(counts.begin.get_or_insert(after)),
                Notice::Reset(_) => {
                    (counts.through, counts.counted) = (GlobalPosition::START, 0);
                }
                Notice::Ended(error) => panic!("it ended: {error:?}"),
                _ => {}
            }
        } else {
            assert_eq!(notice, Notice::Ended(None), "nothing after the end");
        }
    }

    /// What is not as it should be, if anything.
    pub(crate) fn complaint(&self, projection: &mut Projection) -> Option<String> {
        for (sub, view) in &self.views {
            let present = projection.reached();
            let what = format!("{sub}: {:?} at {:?} of {present:?}", view.query, view.reached);
            if !view.live {
                return Some(format!("{what} is not live"));
            }
            let expected = projection.picture(&view.query, present);
            if view
                .parsed()
                .into_iter()
                .ne(expected.iter().map(|(k, v)| (k.clone(), Value::clone(v))))
            {
                return Some(format!("{what} is not the present picture"));
            }
        }
        for (sub, counts) in &self.counts {
            let head = projection.log.len();
            let all = counts.between(projection, 0, head as u64);
            let rest = counts.between(projection, counts.through.get(), head as u64);
            let waits = match counts.summary {
                Summary::Events(most) => rest < u64::from(most),
                Summary::Millis(_) => rest == 0,
            };
            if !waits || counts.counted + rest != all {
                let counted = counts.counted;
                return Some(format!("{sub}: counted {counted} of {all}, {rest} are to come"));
            }
        }
        None
    }
}

impl View {
    fn parsed(&self) -> Vec<(DocumentKey, Value)> {
        let parse = |text: &Bytes| serde_json::from_slice(text).expect("documents are JSON");
        self.documents.iter().map(|(key, text)| (key.clone(), parse(text))).collect()
    }

    fn assert_true(&self, reached: Reached, projection: &mut Projection) {
        let truth = projection.picture(&self.query, reached);
        let truth: Vec<_> = truth.into_iter().map(|(k, v)| (k, Value::clone(&v))).collect();
        assert_eq!(self.parsed(), truth, "{:?} at {reached:?}", self.query);
    }
}

impl Counts {
    fn between(&self, projection: &Projection, after: u64, through: u64) -> u64 {
        let events = &projection.log[after as usize..through as usize];
        let kinds = events.iter().map(|event| EventType::new(event.kind).expect("a good name"));
        kinds.filter(|kind| passes(&self.filter, kind)).count() as u64
    }

    fn take(&mut self, summary: &SummaryWindow, projection: &Projection) {
        let (after, through) = (summary.after.get(), summary.position.get());
        assert!(summary.after >= self.through, "counted twice");
        let skipped = self.between(projection, self.through.get(), after);
        assert_eq!(skipped, 0, "not counted between {} and {after}", self.through);
        assert_eq!(summary.count(), self.between(projection, after, through), "{summary:?}");
        self.counted += summary.count();
        self.through = summary.position;
    }
}

fn write(opcode: Opcode, payload: &[u8], out: &mut Pipe, chance: &mut Chance) {
    let key = (chance.next() as u32).to_be_bytes();
    frame::encode_masked(opcode, true, payload, key, &mut out.unsent);
}
