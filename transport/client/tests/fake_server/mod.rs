//! A small server on a real socket: a real session over a log in memory, and switches for what
//! the tests want to go wrong.

mod documents;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tidewire_eventstore::{
    CommandKey, ConsumerName, EventId, EventType, GlobalPosition, Partition, Payload,
    RecordedEvent, Revision, StreamHash, StreamName, Timestamp,
};
use tidewire_protocol::{
    Activity, Answer, AppendRequest, Epoch, ErrorCode, EventRef, FeedSpec, Grant, GrantedPartition,
    Input, Moment, Output, Progress, Sent, Session, SessionConfig, SessionId, SessionInfo, Sub,
    codec::json::{encode_event, encode_events_frame},
    frame::{FrameDecoder, FrameLimits},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        handshake::server::{Request, Response},
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};
use uuid::Uuid;

use documents::{Documents, QueryFeed};

/// The server, shared between its connections and the test.
pub(crate) struct FakeServer {
    pub(crate) url: String,
    config: SessionConfig,
    log: Mutex<Vec<RecordedEvent>>,
    /// Cut the connection after this many events were written to it; 0: never.
    pub(crate) cut_after_events: AtomicU64,
    /// Cut the next connection that appends, after the append took effect and before its answer.
    pub(crate) cut_after_append: AtomicBool,
    /// How far each consumer is.
    pub(crate) consumers: Mutex<BTreeMap<ConsumerName, GlobalPosition>>,
    /// The keys of all commands that came, each time they came.
    pub(crate) commands: Mutex<Vec<CommandKey>>,
    /// What live queries and fetches read.
    pub(crate) documents: Mutex<Documents>,
    /// Cut every connection that is open.
    pub(crate) cut: tokio::sync::Notify,
    /// How many connections were made.
    pub(crate) connections: AtomicU64,
    /// How many feeds are open.
    pub(crate) feeds: AtomicU64,
}

impl FakeServer {
    pub(crate) async fn start(config: SessionConfig) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let server = Arc::new(Self {
            url: format!("ws://{address}/ws"),
            config,
            log: Mutex::default(),
            cut_after_events: AtomicU64::new(0),
            cut_after_append: AtomicBool::new(false),
            consumers: Mutex::default(),
            commands: Mutex::default(),
            documents: Mutex::default(),
            cut: tokio::sync::Notify::new(),
            connections: AtomicU64::new(0),
            feeds: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&accepting);
                server.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        server
    }

    pub(crate) fn record(&self, stream: &str, event_type: &str, id: EventId, data: Bytes) {
        let mut log = self.log.lock().expect("no test panics with the log");
        let stream = StreamName::new(stream).expect("a name");
        let revision = log.iter().filter(|event| event.stream == stream).count() as u64;
        let position = GlobalPosition::new(log.len() as u64 + 1);
        log.push(RecordedEvent {
            position,
            stream,
            revision: Revision::new(revision),
            event_type: EventType::new(event_type).expect("a name"),
            id,
            recorded_at: Timestamp::from_micros(0),
            payload: Payload::Json(data),
            meta: None,
        });
    }

    pub(crate) fn events(&self) -> Vec<RecordedEvent> {
        self.log.lock().expect("no test panics with the log").clone()
    }

    fn append(&self, append: &AppendRequest) -> Answer {
        for event in &append.events {
            let id = event.id.expect("clients make ids");
            if !self.events().iter().any(|recorded| recorded.id == id) {
                let Payload::Json(data) = event.payload.clone() else {
                    panic!("only JSON is used")
                };
                self.record(append.stream.as_str(), event.event_type.as_str(), id, data);
            }
        }
        let last = append.events.last().and_then(|event| event.id).expect("appends have events");
        let recorded = self.events().into_iter().find(|event| event.id == last).expect("recorded");
        Answer::Appended {
            stream: recorded.stream,
            revision: recorded.revision,
            position: recorded.position,
        }
    }

    pub(crate) fn documents(&self) -> MutexGuard<'_, Documents> {
        self.documents.lock().expect("no test panics with it")
    }

    /// What is kept of a consumer.
    fn save(&self, name: &ConsumerName, progress: &Progress) {
        let mut consumers = self.consumers.lock().expect("no test panics with it");
        for of in &progress.partitions {
            consumers.insert(name.clone(), of.checkpoint);
        }
    }

    /// One connection, looked after every few milliseconds.
    #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
    async fn serve(&self, stream: TcpStream) {
        let echo = |request: &Request, mut response: Response| {
            let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL);
            assert_eq!(offered, Some(&HeaderValue::from_static("tidewire.v1.json")));
            let chosen = HeaderValue::from_static("tidewire.v1.json");
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen);
            Ok(response)
        };
        let Ok(socket) = accept_hdr_async(stream, echo).await else { return };
        let mut stream = socket.into_inner();
        let epoch = Epoch { epoch: Uuid::from_u128(1), first_position: GlobalPosition::new(1) };
        let info = SessionInfo {
            session: SessionId(Uuid::from_u128(7)),
            node: "fake".into(),
            epochs: [epoch].into(),
            opened_at: Timestamp::now(),
            bearer: None,
        };
        let mut session = Session::new(self.config.clone(), info, self.moment());
        let mut decoder = FrameDecoder::new(FrameLimits::server(1 << 20));
        let mut read = BytesMut::new();
        let mut feeds: BTreeMap<Sub, (FeedSpec, u64)> = BTreeMap::new();
        let mut queries: Vec<QueryFeed> = Vec::new();
        let mut names: BTreeMap<Sub, ConsumerName> = BTreeMap::new();
        let mut events_written = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let mut inbound_at = Instant::now();
        loop {
            tokio::select! {
                count = stream.read_buf(&mut read) => match count {
                    Ok(0) | Err(_) => break,
                    Ok(_) => inbound_at = Instant::now(),
                },
                _ = tick.tick() => {}
                () = self.cut.notified() => break,
            }
            while session.may_read() {
                match decoder.decode(&mut read) {
                    Ok(Some(message)) => session.handle(Input::Message(message), self.moment()),
                    Ok(None) => break,
                    Err(error) => session.handle(Input::Broken(error), self.moment()),
                }
            }
            let activity = Activity { inbound_at, progress_at: Instant::now(), unsent_bytes: 0 };
            session.handle(Input::Timeout(activity), self.moment());
            let mut out = BytesMut::new();
            let mut over = false;
            while let Some(output) = session.poll() {
                match output {
                    Output::Send(bytes) | Output::Pong(bytes) => out.extend_from_slice(&bytes),
                    Output::Open { sub, feed, after } => {
                        self.feeds.fetch_add(1, Ordering::SeqCst);
                        feeds.insert(sub, (feed, after.get()));
                    }
                    Output::Shut { sub } => {
                        self.feeds.fetch_sub(1, Ordering::SeqCst);
                        feeds.remove(&sub);
                        queries.retain(|feed| feed.sub() != sub);
                    }
                    Output::Append { id, append } => {
                        let answer = self.append(&append);
                        if self.cut_after_append.swap(false, Ordering::SeqCst) {
                            return;
                        }
                        session.handle(Input::Answer { id, answer: Ok(answer) }, self.moment());
                    }
                    Output::Positions => {
                        let positions = feeds
                            .iter()
                            .map(|(sub, (_, cursor))| (*sub, GlobalPosition::new(*cursor)));
                        let queries = queries.iter().map(|feed| (feed.sub(), feed.position()));
                        let positions = positions.chain(queries).collect();
                        session.handle(Input::Positions(positions), self.moment());
                    }
                    Output::CheckHead { sub } => {
                        let head = Ok(self.moment().head);
                        session.handle(Input::HeadChecked { sub, head }, self.moment());
                    }
                    Output::CheckRemoved { .. } => panic!("nothing is removed"),
                    Output::Fetch { .. } => panic!("nobody fetches"),
                    Output::CheckQuery { sub, query } => {
                        let checked = match query.projection.as_str() {
                            "things" => Ok(self.documents().check()),
                            _ => Err(ErrorCode::UnknownProjection.into()),
                        };
                        session.handle(Input::QueryChecked { sub, checked }, self.moment());
                    }
                    Output::Watch { sub, from, resumed, .. } => {
                        self.feeds.fetch_add(1, Ordering::SeqCst);
                        queries.push(QueryFeed::new(sub, from, resumed));
                    }
                    Output::Query { id, request } => {
                        let answer = self.documents().page(&request);
                        session.handle(Input::Answer { id, answer }, self.moment());
                    }
                    Output::Claim { sub, claim } => {
                        let name = claim.consumer.name.clone();
                        let mut consumers = self.consumers.lock().expect("no test panics with it");
                        let existed = consumers.contains_key(&name);
                        let checkpoint = *consumers.entry(name.clone()).or_insert(claim.after);
                        drop(consumers);
                        names.insert(sub, name);
                        let granted = GrantedPartition {
                            partition: Partition::FIRST,
                            checkpoint,
                            unclean: false,
                            attempts: Vec::new(),
                            replays: Vec::new(),
                        };
                        let claimed = Ok(Grant { existed, partitions: vec![granted] });
                        session.handle(Input::Claimed { sub, claimed }, self.moment());
                    }
                    Output::Save { sub, progress } => {
                        self.save(&names[&sub], &progress);
                        session.handle(Input::Saved { sub, saved: Ok(()) }, self.moment());
                    }
                    Output::Release { sub, progress, .. } => self.save(&names[&sub], &progress),
                    Output::Read { sub, position } => {
                        let event = self.events()[position.get() as usize - 1].clone();
                        let event = Ok(Some(Box::new(event)));
                        session.handle(Input::Read { sub, position, event }, self.moment());
                    }
                    Output::Command { id, command } => {
                        let key = command.key.expect("clients make keys");
                        let mut commands = self.commands.lock().expect("no test panics with it");
                        commands.push(key);
                        drop(commands);
                        if self.cut_after_append.swap(false, Ordering::SeqCst) {
                            return;
                        }
                        let answer = Answer::Result { data: command.data, position: None };
                        session.handle(Input::Answer { id, answer: Ok(answer) }, self.moment());
                    }
                    Output::RoundTrip(_) => {}
                    Output::Close { .. } => over = true,
                }
            }
            let log = self.events();
            for feed in &mut queries {
                if let Some(input) = feed.step(&self.documents(), &mut out) {
                    // What the session says comes after what was told before it.
                    session.handle(input, self.moment());
                    while let Some(Output::Send(bytes)) = session.poll() {
                        out.extend_from_slice(&bytes);
                    }
                }
            }
            for (sub, (feed, cursor)) in &mut feeds {
                if let Some(summary) = feed.batch.summary {
                    documents::count(*sub, summary, cursor, &log, &mut out);
                    continue;
                }
                for event in log.iter().skip(*cursor as usize) {
                    if feed.target.includes(&event.stream) {
                        let stream = StreamHash::of(&event.stream);
                        let offered = EventRef { position: event.position, stream };
                        let offer = session.offer(*sub, &[offered], self.moment());
                        if offer.taken == 0 {
                            break;
                        }
                        if offer.sent == Sent::All {
                            let mut json = BytesMut::new();
                            encode_event(event, &mut json);
                            encode_events_frame(*sub, &[json], &mut out);
                            events_written += 1;
                        }
                    }
                    *cursor = event.position.get();
                    let limit = self.cut_after_events.load(Ordering::SeqCst);
                    if limit > 0 && events_written >= limit {
                        // In the middle of a frame, as cuts are.
                        let _ = stream.write_all(&out[..out.len().saturating_sub(10)]).await;
                        session.handle(Input::Gone, self.moment());
                        while let Some(output) = session.poll() {
                            if let Output::Release { sub, progress, .. } = output {
                                self.save(&names[&sub], &progress);
                            }
                        }
                        return;
                    }
                }
                if *cursor == log.len() as u64 {
                    let position = GlobalPosition::new(*cursor);
                    session.handle(Input::Live { sub: *sub, position }, self.moment());
                }
            }
            session.handle(Input::Accepted, self.moment());
            if stream.write_all(&out).await.is_err() || over {
                break;
            }
        }
        self.feeds.fetch_sub((feeds.len() + queries.len()) as u64, Ordering::SeqCst);
    }

    fn moment(&self) -> Moment {
        let head = self.log.lock().expect("no test panics with the log").len() as u64;
        Moment {
            now: Instant::now(),
            head: GlobalPosition::new(head),
            removed: GlobalPosition::START,
        }
    }
}
