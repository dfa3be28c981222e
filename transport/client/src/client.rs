//! The handle that programs hold: subscribe, append, watch the state, close.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use serde::{Serialize, de::DeserializeOwned};
use tidewire_eventstore::{EventId, ExpectedRevision, NewEvent, StreamName};
use tidewire_protocol::{
    After, AppendRequest, Batch, CloseCode, ErrorBody, FeedSpec, FetchRequest, Filter,
    QueryRequest, Summary, Target,
    client::{ClientConfig, DocumentPage, FetchRefused, OutboxError, Page, Settled, State},
    query::Query,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use uuid::Uuid;

use crate::{
    acked::{AckedOptions, AckedSubscription, Half},
    command::{self, CommandAnswer, CommandError},
    connection::{Ask, Connection},
    live_query::{Link, LiveQuery},
    socket,
    subscription::Subscription,
};

/// How many wishes of the program may wait for the connection's task.
const ASKS_MAX: usize = 64;

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is not one of a WebSocket.
    #[error("{url:?} is not the address of a WebSocket: {reason}")]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The client has given up.
    #[error("the client has given up: {code} ({})", code.text())]
    Failed {
        /// The code that ended the last connection.
        code: CloseCode,
    },
}

/// The client was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client was closed")]
pub struct ClientClosed;

/// Why an append did not take effect, or may not have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The outbox did not take it; it has no effect.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The server refused it; it has no effect.
    #[error("the server refused the append: {0}")]
    Refused(ErrorBody),
    /// The client was closed before it was settled. It may or may not take effect; appended
    /// again with the same event ids, it takes effect once.
    #[error("the client was closed before the append was settled")]
    Closed,
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// It was not asked for.
    #[error(transparent)]
    NotAsked(#[from] FetchRefused),
    /// The server refused.
    #[error("the server refused to read: {0}")]
    Refused(ErrorBody),
    /// The client was closed before the page came.
    #[error("the client was closed before the page came")]
    Closed,
}

/// An append on its way: resolves once it is settled.
#[derive(Debug)]
pub struct PendingAppend(oneshot::Receiver<Result<Settled, AppendError>>);

impl Future for PendingAppend {
    type Output = Result<Settled, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.0).poll(cx);
        answer.map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
    }
}

/// What to subscribe to, and how.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// Which events.
    pub to: Target,
    /// Where to begin.
    pub after: After,
    /// The epoch in which a position in `after` was learnt, if it is known.
    pub epoch: Option<Uuid>,
    /// Which of the events; all if none.
    pub filter: Option<Filter>,
    /// How the server should put events into frames.
    pub batch: Batch,
    /// How many deliveries wait for the program at most, at least 1.
    pub buffer: usize,
}

impl SubscribeOptions {
    /// The events of `to` after `after`, all of them.
    pub fn new(to: Target, after: After) -> Self {
        let batch = Batch::default();
        Self { to, after, epoch: None, filter: None, batch, buffer: 1024 }
    }

    /// Counts by type instead of the events: they come as
    /// [`Notice::Summary`](crate::Notice::Summary).
    #[must_use]
    pub fn summary(mut self, summary: Summary) -> Self {
        self.batch = Batch { summary: Some(summary), ..Batch::default() };
        self
    }
}

/// A client: one connection that is kept up, and what goes on over it.
///
/// Clones share the connection. It ends with [`Client::close`], or when the last clone and every
/// subscription are dropped.
#[derive(Debug, Clone)]
pub struct Client {
    asks: mpsc::Sender<Ask>,
    state: watch::Receiver<State>,
    attention: Arc<Notify>,
}

impl Client {
    /// Begins to connect to `url`, such as `ws://127.0.0.1:7377/ws`, and keeps connected from
    /// then on. Has to be called within a tokio runtime, which then runs the connection.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Url`] when `url` is not the address of a WebSocket. Whether a server is
    /// there is another matter: see [`Self::connected`] and [`Self::state`].
    pub fn connect(url: &str, config: ClientConfig) -> Result<Self, ConnectError> {
        let request = socket::request(url).map_err(|error| ConnectError::Url {
            url: url.to_owned(),
            reason: error.to_string(),
        })?;
        let (asks, received) = mpsc::channel(ASKS_MAX);
        let (states, state) = watch::channel(State::Connecting);
        let attention = Arc::new(Notify::new());
        let connection = Connection::new(request, config, received, states, Arc::clone(&attention));
        tokio::spawn(connection.run());
        Ok(Self { asks, state, attention })
    }

    /// Waits until the server has said welcome.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Failed`] when the client has given up, or was closed.
    pub async fn connected(&self) -> Result<(), ConnectError> {
        let mut state = self.state.clone();
        let reached =
            state.wait_for(|state| matches!(state, State::Connected | State::Failed(_))).await;
        match reached.as_deref() {
            Ok(State::Failed(code)) => Err(ConnectError::Failed { code: *code }),
            Ok(_) => Ok(()),
            Err(_) => Err(ConnectError::Failed { code: CloseCode::NORMAL }),
        }
    }

    /// The client's state, and every change of it.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Opens a subscription, now or as soon as the client is connected.
    ///
    /// # Errors
    ///
    /// [`ClientClosed`] when the client was closed. What the server has to say comes in the
    /// stream.
    pub async fn subscribe(&self, options: SubscribeOptions) -> Result<Subscription, ClientClosed> {
        let (deliveries, received) = mpsc::channel(options.buffer.max(1));
        let feed = FeedSpec {
            filter: options.filter.map(Arc::new),
            batch: options.batch,
            ..FeedSpec::of(options.to)
        };
        let (after, epoch) = (options.after, options.epoch);
        let ask = Ask::Subscribe { feed, after, epoch, deliveries };
        self.asks.send(ask).await.map_err(|_| ClientClosed)?;
        Ok(Subscription::new(received, Arc::clone(&self.attention)))
    }

    /// Opens a subscription whose events the program settles one by one, now or as soon as the
    /// client is connected.
    ///
    /// ```no_run
    /// use tidewire_client::{After, Client, ClientConfig, Nack, SubscribeOptions, Target};
    ///
    /// # async fn send_mail(_: &tidewire_client::RecordedEvent) -> Result<(), String> { Ok(()) }
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect("ws://127.0.0.1:7377/ws", ClientConfig::default())?;
    /// let options = SubscribeOptions::new(Target::All, After::Start)
    ///     .ack_each()
    ///     .consumer("mailer".parse()?);
    /// let mut orders = client.subscribe_acked(options).await?;
    /// while let Some(delivery) = orders.next_event().await {
    ///     let delivery = delivery?;
    ///     match send_mail(delivery.event()).await {
    ///         Ok(()) => delivery.ack(),
    ///         Err(why) => delivery.nack(Nack::retry().because(why)),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientClosed`] when the client was closed. What the server has to say comes in the
    /// stream.
    pub async fn subscribe_acked(
        &self,
        options: AckedOptions,
    ) -> Result<AckedSubscription, ClientClosed> {
        let AckedOptions { subscribe, delivery } = options;
        let feed = FeedSpec {
            filter: subscribe.filter.map(Arc::new),
            batch: subscribe.batch,
            ..FeedSpec::of(subscribe.to)
        };
        let (subscription, half) = Half::new(Arc::clone(&self.attention));
        let (after, epoch) = (subscribe.after, subscribe.epoch);
        let ask = Ask::SubscribeAcked { feed, after, epoch, delivery, half };
        self.asks.send(ask).await.map_err(|_| ClientClosed)?;
        Ok(subscription)
    }

    /// Has the application behind the server carry out a command, and waits for its answer.
    ///
    /// The command is given a key of its own, so that it takes effect once however often the
    /// connection breaks. To have that across restarts of this program too, choose the key:
    /// [`Self::command_once`].
    ///
    /// ```no_run
    /// # use tidewire_client::{Client, CommandError};
    /// # async fn run(client: Client) -> Result<(), CommandError> {
    /// #[derive(serde::Serialize)]
    /// struct PlaceOrder { pizza: u32 }
    /// #[derive(serde::Deserialize)]
    /// struct Placed { order: String }
    ///
    /// let placed: Placed = client.command("place-order", &PlaceOrder { pizza: 1 }).await?;
    /// println!("{}", placed.order);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub async fn command<I, O>(&self, name: &str, input: &I) -> Result<O, CommandError>
    where
        I: Serialize + ?Sized,
        O: DeserializeOwned,
    {
        let key = Uuid::now_v7().to_string();
        Ok(self.command_once(name, &key, input).await?.answer)
    }

    /// Like [`Self::command`], under a key: sent again with the same key and the same name, it is
    /// answered as it was the first time, without effect. Keys are kept for some days.
    ///
    /// # Errors
    ///
    /// [`CommandError`].
    pub async fn command_once<I, O>(
        &self,
        name: &str,
        key: &str,
        input: &I,
    ) -> Result<CommandAnswer<O>, CommandError>
    where
        I: Serialize + ?Sized,
        O: DeserializeOwned,
    {
        let command = command::request(name, key, input)?;
        let (answered, answer) = oneshot::channel();
        let ask = Ask::Command { command, answered };
        self.asks.send(ask).await.map_err(|_| CommandError::Closed)?;
        command::answer(answer.await.unwrap_or(Err(CommandError::Closed))?)
    }

    /// Appends events to one stream, all or none, and waits until they are durable.
    ///
    /// Events without an id get one, so that an append that has to be sent again takes effect
    /// once. Appends of one task to one stream take effect in the order of the calls.
    ///
    /// # Errors
    ///
    /// [`AppendError`].
    pub async fn append(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        events: Vec<NewEvent>,
    ) -> Result<Settled, AppendError> {
        self.begin_append(stream, expected, events).await?.await
    }

    /// Like [`Self::append`], but returns as soon as the append has its place in the order, so
    /// that many can be on their way at once. Dropping the [`PendingAppend`] takes nothing back.
    ///
    /// One that the server refuses for now, because its database is away, is sent again, and may
    /// then come after later ones. Who needs the order over that waits for each answer.
    ///
    /// # Errors
    ///
    /// [`AppendError::Closed`]; everything else comes with the [`PendingAppend`].
    pub async fn begin_append(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        mut events: Vec<NewEvent>,
    ) -> Result<PendingAppend, AppendError> {
        for event in &mut events {
            event.id.get_or_insert_with(EventId::generate);
        }
        let append = AppendRequest { stream, expected, events };
        let (settled, answer) = oneshot::channel();
        let ask = Ask::Append { append, settled };
        self.asks.send(ask).await.map_err(|_| AppendError::Closed)?;
        Ok(PendingAppend(answer))
    }

    /// Reads one page of the log. Broken connections are made again, and the page asked for again.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn fetch(&self, fetch: FetchRequest) -> Result<Page, FetchError> {
        let (page, answer) = oneshot::channel();
        let ask = Ask::Fetch { fetch, page };
        self.asks.send(ask).await.map_err(|_| FetchError::Closed)?;
        answer.await.unwrap_or(Err(FetchError::Closed))
    }

    /// Watches the documents of a query, now or as soon as the client is connected.
    ///
    /// ```no_run
    /// use tidewire_client::{Client, ClientConfig, Query};
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect("ws://127.0.0.1:7377/ws", ClientConfig::default())?;
    /// let mut departures = client.live_query(Query::all("departures".parse()?)).await?;
    /// while let Some(view) = departures.next_view().await {
    ///     println!("{} departures", view?.documents.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientClosed`] when the client was closed. What the server has to say comes in the
    /// stream.
    pub async fn live_query(&self, query: Query) -> Result<LiveQuery, ClientClosed> {
        let (live_query, link) = Link::new(Arc::clone(&self.attention));
        self.asks.send(Ask::Watch { query, link }).await.map_err(|_| ClientClosed)?;
        Ok(live_query)
    }

    /// Reads one page of documents, and waits first for the projection where the request says
    /// so. Broken connections are made again, and the page asked for again.
    ///
    /// # Errors
    ///
    /// [`FetchError`]: refused with `wait_timeout` where the projection was not there in time.
    pub async fn fetch_documents(&self, request: QueryRequest) -> Result<DocumentPage, FetchError> {
        let (page, answer) = oneshot::channel();
        let ask = Ask::FetchDocuments { request, page };
        self.asks.send(ask).await.map_err(|_| FetchError::Closed)?;
        answer.await.unwrap_or(Err(FetchError::Closed))
    }

    /// Closes the connection and ends every subscription; waits until it is done.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.asks.send(Ask::Close { done }).await.is_ok() {
            // An error means that the task has ended, which is what is waited for.
            let _ = closed.await;
        }
    }
}
