//! The task that owns the socket: it carries between the client core, the socket and the
//! program, and decides nothing.

use std::{
    collections::{HashMap, VecDeque},
    future::{self, Future},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tidewire_protocol::{
    After, AppendRequest, CloseCode, FeedSpec, FetchRequest, Sub,
    client::{
        AppendKey, ClientConfig, ClientCore, ClientInput, ClientOutput, FetchKey, Notice, Page,
        Settled, State,
    },
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::{Error, http::Request};
use uuid::Uuid;

use crate::{
    client::{AppendError, FetchError},
    socket::{Incoming, Reading, Socket},
    subscription::{Delivery, SubscriptionEnded},
};

/// How long a closing client waits for its last bytes to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

type Deliveries = mpsc::Sender<Result<Delivery, SubscriptionEnded>>;
type Opening = Pin<Box<dyn Future<Output = Result<Socket, Error>> + Send>>;

/// What the program asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Subscribe { feed: FeedSpec, after: After, epoch: Option<Uuid>, deliveries: Deliveries },
    Append { append: AppendRequest, settled: oneshot::Sender<Result<Settled, AppendError>> },
    Fetch { fetch: FetchRequest, page: oneshot::Sender<Result<Page, FetchError>> },
    Close { done: oneshot::Sender<()> },
}

/// The task's belongings.
pub(crate) struct Connection {
    request: Request<()>,
    core: ClientCore,
    commands: mpsc::Receiver<Command>,
    states: watch::Sender<State>,
    dropped: Arc<Notify>,
    subscriptions: HashMap<Sub, Deliveries>,
    appends: HashMap<AppendKey, oneshot::Sender<Result<Settled, AppendError>>>,
    fetches: HashMap<FetchKey, oneshot::Sender<Result<Page, FetchError>>>,
    /// What the program has not taken yet. While there is anything, nothing is read.
    undelivered: VecDeque<(Deliveries, Result<Delivery, SubscriptionEnded>)>,
    socket: Option<Socket>,
    opening: Option<Opening>,
    /// Whether a `Client` is left that may ask for more.
    asked: bool,
}

impl Connection {
    pub(crate) fn new(
        request: Request<()>,
        config: ClientConfig,
        commands: mpsc::Receiver<Command>,
        states: watch::Sender<State>,
        dropped: Arc<Notify>,
    ) -> Self {
        Self {
            request,
            core: ClientCore::new(config, Instant::now()),
            commands,
            states,
            dropped,
            subscriptions: HashMap::new(),
            appends: HashMap::new(),
            fetches: HashMap::new(),
            undelivered: VecDeque::new(),
            socket: None,
            opening: None,
            asked: true,
        }
    }

    /// Runs until the client is closed, or nobody is left who could ask for anything.
    pub(crate) async fn run(mut self) {
        self.core.connect(Instant::now());
        let done = loop {
            self.obey();
            let waited_for = !self.appends.is_empty() || !self.fetches.is_empty();
            if !self.asked && self.subscriptions.is_empty() && !waited_for {
                break None;
            }
            let reading = if self.undelivered.is_empty() { Reading::On } else { Reading::Paused };
            let wake = self.core.next_timeout();
            tokio::select! {
                command = self.commands.recv(), if self.asked => match command {
                    Some(Command::Close { done }) => break Some(done),
                    Some(command) => self.command(command),
                    None => self.asked = false,
                },
                () = self.dropped.notified() => self.forget_dropped(),
                opened = ready(&mut self.opening) => self.opened(opened),
                incoming = next(&mut self.socket, reading) => self.incoming(incoming),
                () = deliver(&mut self.undelivered) => {}
                () = sleep_until(wake) => {
                    if reading == Reading::Paused {
                        // It is the program that is slow, so silence says nothing of the server.
                        self.hand_in(ClientInput::Heard);
                    }
                    self.hand_in(ClientInput::Timeout);
                }
            }
        };
        self.core.disconnect();
        self.obey();
        // Whoever waits for an append or a page learns of the end by the dropped sender.
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn hand_in(&mut self, input: ClientInput) {
        self.core.handle(input, Instant::now(), rand::random());
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Subscribe { feed, after, epoch, deliveries } => {
                if let State::Failed(code) = self.core.state() {
                    let ended = SubscriptionEnded::Failed { code: *code };
                    return self.undelivered.push_back((deliveries, Err(ended)));
                }
                let sub = self.core.subscribe(feed, after, epoch);
                self.subscriptions.insert(sub, deliveries);
            }
            Command::Append { append, settled } => match self.core.append(append) {
                Ok(key) => drop(self.appends.insert(key, settled)),
                // Whoever has stopped waiting does not mind.
                Err(error) => drop(settled.send(Err(error.into()))),
            },
            Command::Fetch { fetch, page } => match self.core.fetch(fetch) {
                Ok(key) => drop(self.fetches.insert(key, page)),
                // Whoever has stopped waiting does not mind.
                Err(error) => drop(page.send(Err(error.into()))),
            },
            Command::Close { .. } => {}
        }
    }

    /// Unsubscribes from what the program has dropped.
    fn forget_dropped(&mut self) {
        let gone: Vec<Sub> = self
            .subscriptions
            .iter()
            .filter_map(|(sub, deliveries)| deliveries.is_closed().then_some(*sub))
            .collect();
        for sub in gone {
            self.subscriptions.remove(&sub);
            self.core.unsubscribe(sub);
        }
    }

    fn opened(&mut self, opened: Result<Socket, Error>) {
        match opened {
            Ok(socket) => {
                self.socket = Some(socket);
                self.hand_in(ClientInput::Opened);
            }
            Err(error) => {
                tracing::debug!(%error, "connecting failed");
                self.hand_in(ClientInput::Lost(CloseCode::ABNORMAL));
            }
        }
    }

    fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Text(text) => self.hand_in(ClientInput::Text(text)),
            Incoming::Sign => self.hand_in(ClientInput::Heard),
            Incoming::Over(code) => {
                self.retire();
                self.hand_in(ClientInput::Lost(code));
            }
        }
    }

    /// Lets the socket write its last bytes, for a while.
    fn retire(&mut self) {
        if let Some(mut socket) = self.socket.take() {
            // Ends by itself: it has a time limit and owns nothing but the socket.
            tokio::spawn(async move {
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.flush()).await;
            });
        }
    }

    /// Does what the core orders.
    fn obey(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                ClientOutput::Connect => {
                    self.retire();
                    self.opening = Some(Box::pin(Socket::open(self.request.clone())));
                }
                ClientOutput::Send(text) => {
                    if let Some(socket) = &mut self.socket {
                        socket.send(text);
                    }
                }
                ClientOutput::Disconnect(code) => {
                    self.opening = None;
                    if let Some(socket) = &mut self.socket {
                        socket.close(code);
                    }
                    self.retire();
                }
                ClientOutput::State(state) => {
                    if let State::Failed(code) = state {
                        for (_, deliveries) in self.subscriptions.drain() {
                            let ended = SubscriptionEnded::Failed { code };
                            self.undelivered.push_back((deliveries, Err(ended)));
                        }
                    }
                    tracing::debug!(?state, "client state");
                    self.states.send_replace(state);
                }
                ClientOutput::Event { sub, event } => self.queue(sub, Delivery::Event(event)),
                ClientOutput::Notice { sub, notice: Notice::Ended(error) } => {
                    if let (Some(deliveries), Some(error)) =
                        (self.subscriptions.remove(&sub), error)
                    {
                        let ended = SubscriptionEnded::Refused(*error);
                        self.undelivered.push_back((deliveries, Err(ended)));
                    }
                }
                ClientOutput::Notice { sub, notice } => self.queue(sub, Delivery::Notice(notice)),
                ClientOutput::Settled { key, result } => {
                    if let Some(settled) = self.appends.remove(&key) {
                        // Whoever has stopped waiting does not mind.
                        let _ = settled.send(result.map_err(AppendError::Refused));
                    }
                }
                ClientOutput::Fetched { key, result } => {
                    if let Some(page) = self.fetches.remove(&key) {
                        let _ = page.send(result.map_err(FetchError::Refused));
                    }
                }
                ClientOutput::Welcome(welcome) => {
                    tracing::debug!(session = %welcome.session, node = %welcome.node, "connected");
                }
                ClientOutput::Complaint(error) => {
                    tracing::warn!(code = %error.code, "the server complains");
                }
            }
        }
    }

    fn queue(&mut self, sub: Sub, delivery: Delivery) {
        if let Some(deliveries) = self.subscriptions.get(&sub) {
            self.undelivered.push_back((deliveries.clone(), Ok(delivery)));
        }
    }
}

/// Waits for the socket that is being opened, if any.
async fn ready(opening: &mut Option<Opening>) -> Result<Socket, Error> {
    match opening {
        Some(future) => {
            let opened = future.await;
            *opening = None;
            opened
        }
        None => future::pending().await,
    }
}

/// Waits for what the socket brings, if there is one.
async fn next(socket: &mut Option<Socket>, reading: Reading) -> Incoming {
    match socket {
        Some(socket) => socket.next(reading).await,
        None => future::pending().await,
    }
}

/// Hands deliveries to the program until all are taken; for ever, if there are none.
async fn deliver(undelivered: &mut VecDeque<(Deliveries, Result<Delivery, SubscriptionEnded>)>) {
    if undelivered.is_empty() {
        future::pending::<()>().await;
    }
    while let Some((deliveries, _)) = undelivered.front() {
        // An error means that the program has dropped the subscription.
        let permit = deliveries.clone().reserve_owned().await;
        if let (Some((_, delivery)), Ok(permit)) = (undelivered.pop_front(), permit) {
            permit.send(delivery);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => future::pending().await,
    }
}
