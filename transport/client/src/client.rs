//! The handle that programs hold: subscribe, append, watch the state, close.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tidewire_eventstore::{EventId, ExpectedRevision, NewEvent, StreamName};
use tidewire_protocol::{
    After, AppendRequest, Batch, CloseCode, ErrorBody, FeedSpec, FetchRequest, Filter, Target,
    client::{ClientConfig, FetchRefused, OutboxError, Page, Settled, State},
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use uuid::Uuid;

use crate::{
    connection::{Command, Connection},
    socket,
    subscription::Subscription,
};

/// How many commands may wait for the connection's task.
const COMMANDS_MAX: usize = 64;

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
}

/// A client: one connection that is kept up, and what goes on over it.
///
/// Clones share the connection. It ends with [`Client::close`], or when the last clone and every
/// subscription are dropped.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<State>,
    dropped: Arc<Notify>,
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
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (states, state) = watch::channel(State::Connecting);
        let dropped = Arc::new(Notify::new());
        let connection = Connection::new(request, config, received, states, Arc::clone(&dropped));
        tokio::spawn(connection.run());
        Ok(Self { commands, state, dropped })
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
        let command = Command::Subscribe { feed, after, epoch, deliveries };
        self.commands.send(command).await.map_err(|_| ClientClosed)?;
        Ok(Subscription::new(received, Arc::clone(&self.dropped)))
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
        let command = Command::Append { append, settled };
        self.commands.send(command).await.map_err(|_| AppendError::Closed)?;
        Ok(PendingAppend(answer))
    }

    /// Reads one page of the log. Broken connections are made again, and the page asked for again.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn fetch(&self, fetch: FetchRequest) -> Result<Page, FetchError> {
        let (page, answer) = oneshot::channel();
        let command = Command::Fetch { fetch, page };
        self.commands.send(command).await.map_err(|_| FetchError::Closed)?;
        answer.await.unwrap_or(Err(FetchError::Closed))
    }

    /// Closes the connection and ends every subscription; waits until it is done.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close { done }).await.is_ok() {
            // An error means that the task has ended, which is what is waited for.
            let _ = closed.await;
        }
    }
}
