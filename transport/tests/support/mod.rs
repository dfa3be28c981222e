//! A real server on a real socket over a real SQLite log, and a client that speaks plain frames.

#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

pub mod rewindable;
pub mod things;

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use actix_web::{App, HttpServer, rt::System, web};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidewire_eventstore::{
    Append, EventStore, EventType, ExpectedRevision, GlobalPosition, NewEvent, SqliteOptions,
    SqliteStore, StreamName,
};
use tidewire_projections::{DocumentStore, MemoryDocuments, Projections};
use tidewire_transport::{Builder, Config, DatabaseRuntime, Tidewire, tune};
use tokio::{net::TcpStream, sync::oneshot};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};

/// No condition may take longer than this to come about.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A server that stops when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub store: Arc<dyn EventStore>,
    tidewire: Option<Tidewire>,
    projections: Option<Arc<Projections>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

/// How a server differs from the usual one.
#[derive(Clone, Default)]
pub struct Setup {
    pub config: Config,
    pub token: Option<String>,
    pub untuned: bool,
    pub workers: usize,
    /// Instead of a log in a file.
    pub store: Option<Arc<dyn EventStore>>,
    /// What else the transport is told, such as its commands.
    pub prepare: Option<fn(Builder) -> Builder>,
    /// Which projections it runs.
    pub projections: Option<fn(tidewire_projections::Builder) -> tidewire_projections::Builder>,
    /// Where their documents are, instead of in memory of its own.
    pub documents: Option<Arc<dyn DocumentStore>>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    pub fn with_config(change: impl FnOnce(&mut Config)) -> Self {
        let mut setup = Setup::default();
        change(&mut setup.config);
        Self::with(setup)
    }

    pub fn with(setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("log.db");
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            System::new().block_on(async move {
                let runtime = DatabaseRuntime::new(2).expect("threads");
                let store: Arc<dyn EventStore> =
                    match setup.store {
                        Some(store) => store,
                        None => Arc::new(
                            runtime
                                .run(async move {
                                    SqliteStore::open(&path, SqliteOptions::serve()).await
                                })
                                .await
                                .expect("a fresh log"),
                        ),
                    };
                let projections = match setup.projections {
                    Some(add) => {
                        let documents =
                            setup.documents.unwrap_or_else(|| Arc::new(MemoryDocuments::new()));
                        let log = store.clone();
                        let handle = runtime.handle().clone();
                        let started = runtime.run(async move {
                            add(Projections::builder(log, documents, "test")).start(&handle).await
                        });
                        Some(Arc::new(started.await.expect("projections that can be run")))
                    }
                    None => None,
                };
                let prepare = setup.prepare.unwrap_or(|builder| builder);
                let mut builder = prepare(Tidewire::builder(store.clone()));
                if let Some(projections) = &projections {
                    builder = builder.projections(projections.clone());
                }
                let tidewire = builder
                    .config(setup.config)
                    .token(setup.token)
                    .runtime(runtime)
                    .start()
                    .await
                    .expect("a log that can be read");
                let app = {
                    let tidewire = tidewire.clone();
                    move || {
                        App::new()
                            .service(tidewire.scope())
                            .default_service(web::to(tidewire_transport::not_found))
                    }
                };
                let server = HttpServer::new(app);
                let server = if setup.untuned { server } else { tune(server) };
                let server = server
                    .workers(setup.workers.max(1))
                    .shutdown_timeout(1)
                    .disable_signals()
                    .bind(("127.0.0.1", 0))
                    .expect("a free port");
                let address = server.addrs()[0];
                let running = server.run();
                let handle = running.handle();
                ready.send((address, store, tidewire, projections)).expect("the test waits");
                let serving = actix_web::rt::spawn(running);
                let _ = stopped.await;
                handle.stop(false).await;
                let _ = serving.await;
            });
        });
        let (address, store, tidewire, projections) = started.recv().expect("the server starts");
        Self {
            address,
            store,
            tidewire: Some(tidewire),
            projections,
            stop: Some(stop),
            thread: Some(thread),
            _folder: folder,
        }
    }

    pub fn tidewire(&self) -> Tidewire {
        self.tidewire.clone().expect("the server runs")
    }

    pub fn projections(&self) -> &Projections {
        self.projections.as_deref().expect("it has projections")
    }

    /// The documents of the tests' projection, as the store has them once they are all there.
    pub async fn things(&self) -> things::All {
        let path = format!("/projections/things/documents?limit=1000&wait={}", self.head().await);
        let (status, body) = self.http("GET", &path, None).await;
        assert_eq!(status, 200, "{body}");
        let page: Value = serde_json::from_str(&body).expect("JSON");
        let documents = page["documents"].as_array().expect("a list").iter();
        let key = |document: &Value| document["key"].as_str().expect("a key").to_owned();
        documents.map(|document| (key(document), document["document"].clone())).collect()
    }

    /// Appends `count` events to `stream`, one append; returns the last position.
    pub async fn append(&self, stream: &str, count: usize) -> u64 {
        self.append_sized(stream, count, 20).await
    }

    /// Appends `count` events with payloads of about `bytes` bytes.
    pub async fn append_sized(&self, stream: &str, count: usize, bytes: usize) -> u64 {
        let pad = "x".repeat(bytes);
        let events = (0..count).map(|n| {
            let data = json!({ "n": n, "pad": pad }).to_string();
            NewEvent::json(EventType::new("Happened").expect("a good name"), data)
        });
        let append = Append {
            stream: StreamName::new(stream).expect("a good name"),
            expected: ExpectedRevision::Any,
            events: events.collect(),
        };
        let pending = self.store.append(append).expect("a good append");
        pending.await.expect("a recorded append").position.get()
    }

    pub async fn head(&self) -> GlobalPosition {
        self.store.head().await.expect("a log that can be read").position
    }

    /// Connects and says hello.
    pub async fn connect(&self) -> Client {
        let mut client = self.connect_silently().await;
        client.send(json!({ "type": "hello", "protocol": 1 })).await;
        client.expect("welcome").await;
        client
    }

    pub async fn connect_silently(&self) -> Client {
        let url = format!("ws://{}/ws", self.address);
        let (socket, _) = connect_async(url).await.expect("a handshake");
        Client { socket }
    }

    /// Tries a handshake with further headers; the status where it is refused.
    pub async fn handshake(&self, headers: &[(&'static str, &str)]) -> Result<Client, u16> {
        let mut request =
            format!("ws://{}/ws", self.address).into_client_request().expect("a good request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a good header"));
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Client { socket }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("neither accepted nor refused: {error}"),
        }
    }

    /// One HTTP/1.1 request on a connection of its own: status and body.
    pub async fn http(&self, method: &str, path: &str, body: Option<&str>) -> (u16, String) {
        self.http_with(method, path, "application/json", "", body).await
    }

    pub async fn http_with(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        headers: &str,
        body: Option<&str>,
    ) -> (u16, String) {
        let body = body.unwrap_or_default();
        let headers = format!(
            "host: {}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n{headers}",
            self.address,
            body.len()
        );
        self.request(method, path, &headers, body).await
    }

    /// A request that names its own host.
    pub async fn http_as(&self, host: &str, method: &str, path: &str) -> (u16, String) {
        self.request(method, path, host, "").await
    }

    async fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = TcpStream::connect(self.address).await.expect("a connection");
        let request =
            format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n{body}");
        socket.write_all(request.as_bytes()).await.expect("an open socket");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.expect("an answer");
        let answer = String::from_utf8(answer).expect("text");
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        (status, body.unwrap_or_default())
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let (status, text) = self.http("GET", "/metrics", None).await;
        assert_eq!(status, 200);
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or_else(|| panic!("no metric {name} in:\n{text}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tidewire = None;
        self.projections = None;
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the server does not panic");
            }
        }
    }
}

/// A client that says exactly what it is told.
pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub async fn send(&mut self, message: Value) {
        self.send_text(message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.expect("an open socket");
    }

    /// The next message, whatever it is, but no ping.
    pub async fn next(&mut self) -> Message {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.socket.next()).await;
            match next.expect("a message in time").expect("an open socket") {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return message,
                Err(error) => panic!("the socket failed: {error}"),
            }
        }
    }

    /// The next protocol message.
    pub async fn message(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("not a text message: {other:?}"),
        }
    }

    /// The next message, which has to be of type `kind`; heartbeats are passed over.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < deadline, "nothing but heartbeats instead of {kind}");
            let message = self.message().await;
            if message["type"] == "heartbeat" && kind != "heartbeat" {
                continue;
            }
            assert_eq!(message["type"], kind, "{message}");
            return message;
        }
    }

    /// Passes over messages up to the first of type `kind`.
    pub async fn skip_to(&mut self, kind: &str) -> Value {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let message = self.message().await;
            if message["type"] == kind {
                return message;
            }
        }
        panic!("no {kind} in time");
    }

    /// Subscribes to everything.
    pub async fn subscribe_all(&mut self, sub: u32, after: Value) -> Value {
        self.send(
            json!({ "type": "subscribe", "sub": sub, "to": { "all": true }, "after": after }),
        )
        .await;
        self.expect("subscribed").await
    }

    /// Reads events of `sub` until position `through`; returns all their positions.
    pub async fn positions_through(&mut self, sub: u32, through: u64) -> Vec<u64> {
        let mut positions = Vec::new();
        while positions.last() != Some(&through) {
            let message = self.message().await;
            if message["type"] == "events" {
                assert_eq!(message["sub"], sub);
                let events = message["events"].as_array().expect("a list");
                positions.extend(events.iter().filter_map(|event| event["position"].as_u64()));
            }
            assert!(positions.last() <= Some(&through), "beyond {through}: {positions:?}");
        }
        positions
    }

    /// Waits for the server to close; returns the code of its Close frame.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            match self.next().await {
                Message::Close(Some(frame)) => return frame.code.into(),
                Message::Close(None) => return 1005,
                _ => {}
            }
        }
    }
}

/// Waits until `condition` holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
