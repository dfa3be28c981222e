//! [`Tidewire`]: the transport as a library. A builder takes a store and yields an Actix scope.

use std::{any::Any, collections::BTreeSet, fmt, os::fd::AsFd, rc::Rc, sync::Arc, time::Duration};

use actix::{Actor, Arbiter, ArbiterHandle, AsyncContext, Context};
use actix_http::Request;
use actix_service::IntoServiceFactory;
use actix_web::{
    HttpServer, Scope,
    body::MessageBody,
    dev::{AppConfig, Extensions, Response, Service, ServiceFactory},
    rt::net::TcpStream,
    web,
};
use futures_util::{Stream, stream::unfold};
use serde::{Serialize, de::DeserializeOwned};
use tidewire_eventstore::{EventStore, LogTail, ReadError, TailConfig, TailNews};
use tidewire_projections::Projections;
use tokio::{
    runtime::{self, Handle, Runtime},
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::{
    Config,
    broadcaster::Broadcaster,
    catch_up::CatchUp,
    commands::{Collections, CommandHandler, Registry},
    consumers::Consumers,
    dispatcher::Drain,
    http,
    log_view::{LogView, SharedView},
    metrics::Metrics,
    node::Node,
    retention,
    websocket::Connection,
};

/// News that may wait between the log's tail and the broadcaster. When it is full the tail
/// waits, and reads on from the store.
const TAIL_QUEUE: usize = 64;

/// The kernel's send buffer of a tuned socket (`SO_SNDBUF`), in bytes; Linux doubles it for its own
/// book-keeping. A slow client holds this much of the kernel's memory and no more.
pub const SOCKET_SEND_BYTES: usize = 128 << 10;

/// How often a drain looks whether everybody has left.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Why the transport could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A runtime, for the database or for commands, could not be made.
    #[error("a runtime could not be made: {0}")]
    Runtime(#[from] std::io::Error),
    /// A setting is zero that cannot be.
    #[error("the setting `{0}` must not be zero")]
    Config(&'static str),
    /// A command cannot be registered: its name is none, or it has two handlers.
    #[error("the command {name:?} {wrong}")]
    Command {
        /// The name.
        name: String,
        /// What is wrong.
        wrong: &'static str,
    },
    /// A collection has no projection of its name.
    #[error("the collection {name:?} has no projection")]
    Collection {
        /// The name.
        name: Box<str>,
    },
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] ReadError),
}

/// A runtime for everything that talks to the database. Open the store on it, so that its
/// connections are served there and not on an Actix arbiter.
#[derive(Debug)]
pub struct DatabaseRuntime(Option<Runtime>);

impl DatabaseRuntime {
    /// A multi-thread runtime with `threads` threads, at least one.
    ///
    /// # Errors
    ///
    /// Where the operating system grants no threads.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let mut builder = runtime::Builder::new_multi_thread();
        builder.worker_threads(threads.max(1)).thread_name("tidewire-db").enable_all();
        Ok(Self(Some(builder.build()?)))
    }

    /// Runs `work` on this runtime and waits for it, on whatever runtime the caller is.
    ///
    /// # Panics
    ///
    /// If `work` panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.handle().spawn(work).await.expect("the work did not panic")
    }

    /// The runtime, to spawn on.
    ///
    /// # Panics
    ///
    /// Never: it is there until it is dropped.
    pub fn handle(&self) -> &Handle {
        self.0.as_ref().expect("the runtime is there until it is dropped").handle()
    }
}

impl Drop for DatabaseRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Dropping a runtime waits for it, which a thread of another runtime must not.
            runtime.shutdown_background();
        }
    }
}

/// Makes a [`Tidewire`].
pub struct Builder {
    store: Arc<dyn EventStore>,
    config: Config,
    token: Option<String>,
    runtime: Option<DatabaseRuntime>,
    commands: Registry,
    projections: Option<Arc<Projections>>,
    collections: BTreeSet<Box<str>>,
}

impl Builder {
    /// Limits and delays; without this, [`Config::default`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// A token that every client has to show; `None` lets everybody in.
    #[must_use]
    pub fn token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// The runtime that the store was opened on; without this, one is made.
    #[must_use]
    pub fn runtime(mut self, runtime: DatabaseRuntime) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Serves the documents of `projections`, as pages and as live queries. They are to run on the
    /// runtime that this is given ([`DatabaseRuntime::handle`]), and end with [`Tidewire::drain`].
    #[must_use]
    pub fn projections(mut self, projections: impl Into<Arc<Projections>>) -> Self {
        self.projections = Some(projections.into());
        self
    }

    /// Has `handler` do what clients ask for under `name`. See [`commands`](crate::commands) for
    /// what a handler can rely on.
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// use serde::{Deserialize, Serialize};
    /// use tidewire_transport::{
    ///     Tidewire,
    ///     commands::{CommandError, Context, Decision},
    /// };
    ///
    /// #[derive(Deserialize)]
    /// struct Greet {
    ///     name: String,
    /// }
    ///
    /// #[derive(Serialize)]
    /// struct Greeting {
    ///     text: String,
    /// }
    ///
    /// async fn greet(_: Context, greet: Greet) -> Result<Decision<Greeting>, CommandError> {
    ///     if greet.name.is_empty() {
    ///         return Err(CommandError::new("nobody", "there is nobody to greet"));
    ///     }
    ///     Ok(Decision::answer(Greeting { text: format!("hello, {}", greet.name) }))
    /// }
    ///
    /// # fn build(store: Arc<dyn tidewire_eventstore::EventStore>) {
    /// let builder = Tidewire::builder(store).command("greet", greet);
    /// # }
    /// ```
    #[must_use]
    pub fn command<H, Input, Output>(mut self, name: &str, handler: H) -> Self
    where
        H: CommandHandler<Input, Output>,
        Input: DeserializeOwned + Send + 'static,
        Output: Serialize + Send + 'static,
    {
        self.commands.add(name, handler);
        self
    }

    /// Lets clients edit the documents of these collections, by the command `$collection`. Each has
    /// to be the name of one of the [projections](Self::projections), made by
    /// [`Collection::projection`](tidewire_projections::collection::Collection::projection).
    #[must_use]
    pub fn collections<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.collections.extend(names.into_iter().map(Box::from));
        self
    }

    /// Reads the log's head and starts following the log. Has to be called inside an Actix system
    /// (`#[actix_web::main]`).
    ///
    /// # Errors
    ///
    /// [`StartError`] where the log cannot be read, or a setting cannot work.
    pub async fn start(self) -> Result<Tidewire, StartError> {
        let Self { store, config, token, runtime, mut commands, projections, collections } = self;
        config.check().map_err(StartError::Config)?;
        commands.check().map_err(|(name, wrong)| StartError::Command { name, wrong })?;
        if !collections.is_empty() {
            let collections = Collections::new(collections, projections.clone());
            let collections = collections.map_err(|name| StartError::Collection { name })?;
            commands.add_collections(collections);
        }
        let runtime = match runtime {
            Some(runtime) => runtime,
            None => DatabaseRuntime::new(config.database_threads)?,
        };
        let handle = runtime.handle().clone();
        let found = {
            let store = store.clone();
            runtime.run(async move { store.head().await }).await?
        };

        let metrics = Metrics::new(store.clone());
        let log = LogView::first(&found);
        let shared = Arc::new(SharedView::new(&log));
        let mut tail = TailConfig::default();
        tail.head_poll = config.head_poll;
        let tail = LogTail::after_head(store.clone(), found, tail);
        // An arbiter of its own, so that no worker's sessions delay the others'.
        let arbiter = Arbiter::new().handle();
        let broadcaster = {
            let broadcaster = Broadcaster::new(log, shared.clone(), metrics.clone());
            let news = follow(tail, &handle);
            Broadcaster::start_in_arbiter(&arbiter, |ctx: &mut Context<_>| {
                ctx.add_stream(news);
                broadcaster
            })
        };
        let catch_up = CatchUp::start(
            &handle,
            store.clone(),
            config.catch_up_reads_max,
            config.page_cache_bytes_max,
            metrics.catch_up.clone(),
        );
        let (consumers, keeping) = Consumers::start(
            store.consumers(),
            &handle,
            config.node.clone(),
            metrics.consumers.clone(),
        );
        let node = Arc::new(Node::new(
            config,
            token,
            store,
            handle.clone(),
            catch_up,
            broadcaster,
            metrics,
            shared.clone(),
            consumers,
            commands,
            projections,
        )?);
        let retention = (!node.config.retention.is_empty())
            .then(|| handle.spawn(retention::keep(node.clone())).abort_handle());
        let following = Following { arbiter, shared, retention, runtime, keeping };
        Ok(Tidewire { node: web::Data::from(node), following: Arc::new(following) })
    }
}

/// Follows the log on `runtime`. Ends, with its task, when the stream is dropped.
fn follow(mut tail: LogTail, runtime: &Handle) -> impl Stream<Item = TailNews> + 'static {
    let (sender, receiver) = mpsc::channel(TAIL_QUEUE);
    runtime.spawn(async move {
        loop {
            tokio::select! {
                news = tail.news() => {
                    if sender.send(news).await.is_err() {
                        return;
                    }
                }
                () = sender.closed() => return,
            }
        }
    });
    unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

/// What follows the log for as long as any handle on the transport lives.
struct Following {
    /// The broadcaster's.
    arbiter: ArbiterHandle,
    shared: Arc<SharedView>,
    /// Follows the retention policies, where there are any.
    retention: Option<AbortHandle>,
    runtime: DatabaseRuntime,
    /// The task that saves what consumers have come to.
    keeping: AbortHandle,
}

impl Following {
    /// Lets the broadcaster go, and its thread; what saves checkpoints, and what removes by itself.
    fn stop(&self) {
        self.keeping.abort();
        if let Some(retention) = &self.retention {
            retention.abort();
        }
        self.shared.stop_following();
        self.arbiter.stop();
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A running transport. Cheap to clone; send it to every worker.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use actix_web::{App, HttpServer};
/// # use tidewire_transport::Tidewire;
/// # async fn run(store: Arc<dyn tidewire_eventstore::EventStore>) -> Result<(), Box<dyn std::error::Error>> {
/// let tidewire = Tidewire::builder(store).start().await?;
/// let server = HttpServer::new(move || App::new().service(tidewire.scope()));
/// tidewire_transport::tune(server).bind("127.0.0.1:7377")?.run().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tidewire {
    pub(crate) node: web::Data<Node>,
    following: Arc<Following>,
}

impl Tidewire {
    /// Begins to make a transport over `store`.
    pub fn builder(store: Arc<dyn EventStore>) -> Builder {
        let (config, commands) = (Config::default(), Registry::default());
        Builder {
            store,
            config,
            token: None,
            runtime: None,
            commands,
            projections: None,
            collections: BTreeSet::new(),
        }
    }

    /// `/ws`, `/streams/{stream}`, `/commands/{name}`, `/events`, `/events/{position}`,
    /// `/categories/{category}/retention`, `/projections/{name}`, `/healthz`, `/readyz`, `/metrics` and `/sessions`,
    /// below no prefix. What an application registers after it, it does not see: register it last,
    /// or put it below a prefix, as in `web::scope("/log").service(tidewire.scope())`.
    pub fn scope(&self) -> Scope {
        web::scope("").app_data(self.node.clone()).configure(http::routes)
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.node.sessions()
    }

    /// Runs `work` where the database is talked to.
    ///
    /// # Panics
    ///
    /// If `work` panics.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.following.runtime.run(work).await
    }

    /// Says goodbye to every session, with a delay after which to come back that is spread over
    /// [`Config::drain_spread`], takes no new ones, and waits until all have left and
    /// the checkpoints of consumers are written, each at most [`Config::drain_timeout`]. Returns how many had not. Then the log is not followed any more.
    pub async fn drain(&self) -> usize {
        let config = &self.node.config;
        self.node.begin_drain();
        for dispatcher in self.node.dispatchers() {
            // Once a worker, and it must arrive: past the mailbox's bound.
            dispatcher.do_send(Drain { spread: config.drain_spread });
        }
        let deadline = Instant::now() + config.drain_timeout;
        while self.node.sessions() > 0 && Instant::now() < deadline {
            sleep(DRAIN_POLL).await;
        }
        self.node.consumers.flush(config.drain_timeout).await;
        if let Some(projections) = self.node.live.projections().cloned() {
            self.run(async move { projections.close().await }).await;
        }
        self.following.stop();
        self.node.sessions()
    }
}

/// Sets an [`HttpServer`] up for many long-lived sockets: the body of a session is asked for more
/// only when the kernel has taken everything before it, a finished session is not lingered over,
/// the kernel's send buffers are bounded, small writes are not delayed, and a session can cut its
/// socket off. Optional; what depends on it says so.
pub fn tune<F, I, S, B>(server: HttpServer<F, I, S, B>) -> HttpServer<F, I, S, B>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    server
        .h1_write_buffer_size(1)
        .client_disconnect_timeout(Duration::ZERO)
        .tcp_nodelay(true)
        .on_connect(accepted)
}

/// Bounds an accepted socket's send buffer and keeps a second handle on it for its session.
fn accepted(socket: &dyn Any, extensions: &mut Extensions) {
    let Some(socket) = socket.downcast_ref::<TcpStream>() else { return };
    // A kernel that refuses keeps its own bound.
    let _ = socket2::SockRef::from(socket).set_send_buffer_size(SOCKET_SEND_BYTES);
    extensions.insert(Connection {
        address: socket.peer_addr().ok(),
        socket: socket.as_fd().try_clone_to_owned().ok().map(Rc::new),
    });
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering::Relaxed, time::Instant as StdInstant};

    use tidewire_eventstore::MemoryStore;

    use super::*;
    use crate::worker::Worker;

    async fn start() -> Tidewire {
        let store = Arc::new(MemoryStore::new());
        Tidewire::builder(store).start().await.expect("a log that can be read")
    }

    async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = StdInstant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(StdInstant::now() < deadline, "not in time: {what}");
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[actix::test]
    async fn the_broadcasters_thread_ends_with_the_drain_or_with_the_last_handle() {
        for drains in [true, false] {
            let tidewire = start().await;
            let arbiter = tidewire.following.arbiter.clone();
            assert!(arbiter.spawn(async {}), "it runs");
            let other = tidewire.clone();
            if drains {
                tidewire.drain().await;
            } else {
                drop(tidewire);
                assert!(arbiter.spawn(async {}), "somebody has a handle yet");
                drop(other);
            }
            eventually("it ends", || !arbiter.spawn(async {})).await;
        }
    }

    #[actix::test]
    async fn a_worker_that_has_ended_is_let_go_and_its_counts_stay() {
        let tidewire = start().await;
        let node = tidewire.node.clone().into_inner();
        for ended in 1..=3 {
            // As an HTTP server's worker, which ends when the server is stopped.
            let arbiter = Arbiter::new();
            let on_arbiter = node.clone();
            arbiter.spawn_fn(move || {
                Worker::current(&on_arbiter).metrics.frames_sent.fetch_add(7, Relaxed);
            });
            eventually("it is there", || node.dispatchers().len() == 1).await;
            arbiter.stop();
            arbiter.join().expect("it does not panic");
            eventually("it is let go", || node.dispatchers().is_empty()).await;
            eventually("its counts are taken over", || node.metrics.workers_living() == 0).await;
            let text = node.metrics.render(0, Vec::new()).expect("metrics");
            let counted = format!("tidewire_frames_sent_total {}\n", 7 * ended);
            assert!(text.contains(&counted), "no {counted:?} in\n{text}");
        }
    }
}
