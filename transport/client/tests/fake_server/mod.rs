//! A small server on a real socket: a real session over a log in memory, and switches for what
//! the tests want to go wrong.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tidewire_eventstore::{
    EventId, EventType, GlobalPosition, Payload, RecordedEvent, Revision, StreamName, Timestamp,
};
use tidewire_protocol::{
    Activity, Answer, AppendRequest, Epoch, FeedSpec, Input, Moment, Output, Session,
    SessionConfig, SessionId, SessionInfo, Sub,
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

/// The server, shared between its connections and the test.
pub(crate) struct FakeServer {
    pub(crate) url: String,
    config: SessionConfig,
    log: Mutex<Vec<RecordedEvent>>,
    /// Cut the connection after this many events were written to it; 0: never.
    pub(crate) cut_after_events: AtomicU64,
    /// Cut the next connection that appends, after the append took effect and before its answer.
    pub(crate) cut_after_append: AtomicBool,
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
                        session.handle(Input::Positions(positions.collect()), self.moment());
                    }
                    Output::CheckHead { sub } => {
                        let head = Ok(self.moment().head);
                        session.handle(Input::HeadChecked { sub, head }, self.moment());
                    }
                    Output::CheckRemoved { .. } => panic!("nothing is removed"),
                    Output::Fetch { .. } => panic!("nobody fetches"),
                    Output::Claim { .. }
                    | Output::Save { .. }
                    | Output::Release { .. }
                    | Output::Read { .. }
                    | Output::Command { .. } => panic!("nobody acknowledges or commands"),
                    Output::RoundTrip(_) => {}
                    Output::Close { .. } => over = true,
                }
            }
            let log = self.events();
            for (sub, (feed, cursor)) in &mut feeds {
                for event in log.iter().skip(*cursor as usize) {
                    *cursor = event.position.get();
                    if !feed.target.includes(&event.stream) {
                        continue;
                    }
                    let mut json = BytesMut::new();
                    encode_event(event, &mut json);
                    encode_events_frame(*sub, &[json], &mut out);
                    events_written += 1;
                    let limit = self.cut_after_events.load(Ordering::SeqCst);
                    if limit > 0 && events_written >= limit {
                        // In the middle of a frame, as cuts are.
                        let _ = stream.write_all(&out[..out.len() - 10]).await;
                        return;
                    }
                }
                let position = GlobalPosition::new(*cursor);
                session.handle(Input::Live { sub: *sub, position }, self.moment());
            }
            if stream.write_all(&out).await.is_err() || over {
                break;
            }
        }
        self.feeds.fetch_sub(feeds.len() as u64, Ordering::SeqCst);
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
