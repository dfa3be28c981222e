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
    After, AppendRequest, CloseCode, CommandRequest, FeedSpec, FetchRequest, QueryRequest, Sub,
    client::{
        AppendKey, ClientConfig, ClientCore, ClientInput, ClientOutput, CommandResult,
        CommandTicket, DocumentPage, FetchKey, Notice, Page, Settled, State,
    },
    query::Query,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::{Error, http::Request};
use uuid::Uuid;

use crate::{
    acked::Half,
    client::{AppendError, FetchError},
    command::CommandError,
    live_query::Link,
    socket::{Incoming, Reading, Socket},
    subscription::{Delivery, SubscriptionEnded},
};

/// How long a closing client waits for its last bytes to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

type Deliveries = mpsc::Sender<Result<Delivery, SubscriptionEnded>>;
type Opening = Pin<Box<dyn Future<Output = Result<Socket, Error>> + Send>>;

/// What the program asks for.
#[derive(Debug)]
pub(crate) enum Ask {
    Subscribe {
        feed: FeedSpec,
        after: After,
        epoch: Option<Uuid>,
        deliveries: Deliveries,
    },
    SubscribeAcked {
        feed: FeedSpec,
        after: After,
        epoch: Option<Uuid>,
        delivery: tidewire_protocol::Delivery,
        half: Half,
    },
    Command {
        command: CommandRequest,
        answered: oneshot::Sender<Result<CommandResult, CommandError>>,
    },
    Append {
        append: AppendRequest,
        settled: oneshot::Sender<Result<Settled, AppendError>>,
    },
    Fetch {
        fetch: FetchRequest,
        page: oneshot::Sender<Result<Page, FetchError>>,
    },
    Watch {
        query: Query,
        link: Link,
    },
    FetchDocuments {
        request: QueryRequest,
        page: oneshot::Sender<Result<DocumentPage, FetchError>>,
    },
    Close {
        done: oneshot::Sender<()>,
    },
}

/// The task's belongings.
pub(crate) struct Connection {
    request: Request<()>,
    core: ClientCore,
    asks: mpsc::Receiver<Ask>,
    states: watch::Sender<State>,
    /// Some subscription was dropped, or has something to say.
    attention: Arc<Notify>,
    subscriptions: HashMap<Sub, Deliveries>,
    /// Subscriptions with acknowledgements.
    acked: HashMap<Sub, Half>,
    live_queries: HashMap<Sub, Link>,
    commands: HashMap<CommandTicket, oneshot::Sender<Result<CommandResult, CommandError>>>,
    appends: HashMap<AppendKey, oneshot::Sender<Result<Settled, AppendError>>>,
    fetches: HashMap<FetchKey, oneshot::Sender<Result<Page, FetchError>>>,
    document_fetches: HashMap<FetchKey, oneshot::Sender<Result<DocumentPage, FetchError>>>,
    /// What the program has not taken yet. While there is anything, nothing is read.
    undelivered: VecDeque<(Deliveries, Result<Delivery, SubscriptionEnded>)>,
    socket: Option<Socket>,
    opening: Option<Opening>,
    /// Whether a `Client` is left that may ask for more.
    may_ask: bool,
}

impl Connection {
    pub(crate) fn new(
        request: Request<()>,
        config: ClientConfig,
        asks: mpsc::Receiver<Ask>,
        states: watch::Sender<State>,
        attention: Arc<Notify>,
    ) -> Self {
        Self {
            request,
            core: ClientCore::new(config, Instant::now()),
            asks,
            states,
            attention,
            subscriptions: HashMap::new(),
            acked: HashMap::new(),
            live_queries: HashMap::new(),
            commands: HashMap::new(),
            appends: HashMap::new(),
            fetches: HashMap::new(),
            document_fetches: HashMap::new(),
            undelivered: VecDeque::new(),
            socket: None,
            opening: None,
            may_ask: true,
        }
    }

    /// Runs until the client is closed, or nobody is left who could ask for anything.
    pub(crate) async fn run(mut self) {
        self.core.connect(Instant::now());
        let done = loop {
            self.obey();
            if !self.may_ask && !self.is_needed() {
                break None;
            }
            let reading = if self.undelivered.is_empty() { Reading::On } else { Reading::Paused };
            let wake = self.core.next_timeout();
            tokio::select! {
                ask = self.asks.recv(), if self.may_ask => match ask {
                    Some(Ask::Close { done }) => break Some(done),
                    Some(ask) => self.asked(ask),
                    None => self.may_ask = false,
                },
                () = self.attention.notified() => self.attend(),
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
        self.attend();
        self.core.disconnect(Instant::now());
        self.obey();
        for half in self.acked.values() {
            half.end(None);
        }
        for link in self.live_queries.values() {
            link.end(None);
        }
        // Whoever waits for an append or a page learns of the end by the dropped sender.
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    /// Whether something is subscribed to or waited for.
    fn is_needed(&self) -> bool {
        let waited_for = !self.appends.is_empty()
            || !self.commands.is_empty()
            || !self.fetches.is_empty()
            || !self.document_fetches.is_empty();
        let subscribed = !self.subscriptions.is_empty()
            || !self.acked.is_empty()
            || !self.live_queries.is_empty();
        subscribed || waited_for
    }

    fn hand_in(&mut self, input: ClientInput) {
        self.core.handle(input, Instant::now(), rand::random());
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Subscribe { feed, after, epoch, deliveries } => {
                if let State::Failed(code) = self.core.state() {
                    let ended = SubscriptionEnded::Failed { code: *code };
                    return self.undelivered.push_back((deliveries, Err(ended)));
                }
                let sub = self.core.subscribe(feed, after, epoch);
                self.subscriptions.insert(sub, deliveries);
            }
            Ask::SubscribeAcked { feed, after, epoch, delivery, half } => {
                if let State::Failed(code) = self.core.state() {
                    return half.end(Some(SubscriptionEnded::Failed { code: *code }));
                }
                let sub = self.core.subscribe_acked(feed, after, epoch, delivery);
                self.acked.insert(sub, half);
            }
            Ask::Command { command, answered } => {
                match self.core.command(command, Instant::now()) {
                    Ok(ticket) => drop(self.commands.insert(ticket, answered)),
                    // Whoever has stopped waiting does not mind.
                    Err(error) => drop(answered.send(Err(error.into()))),
                }
            }
            Ask::Append { append, settled } => match self.core.append(append, Instant::now()) {
                Ok(key) => drop(self.appends.insert(key, settled)),
                // Whoever has stopped waiting does not mind.
                Err(error) => drop(settled.send(Err(error.into()))),
            },
            Ask::Fetch { fetch, page } => match self.core.fetch(fetch) {
                Ok(key) => drop(self.fetches.insert(key, page)),
                // Whoever has stopped waiting does not mind.
                Err(error) => drop(page.send(Err(error.into()))),
            },
            Ask::Watch { query, link } => {
                if let State::Failed(code) = self.core.state() {
                    return link.end(Some(SubscriptionEnded::Failed { code: *code }));
                }
                let sub = self.core.watch(query);
                self.live_queries.insert(sub, link);
            }
            Ask::FetchDocuments { request, page } => match self.core.fetch_documents(request) {
                Ok(key) => drop(self.document_fetches.insert(key, page)),
                // Whoever has stopped waiting does not mind.
                Err(error) => drop(page.send(Err(error.into()))),
            },
            Ask::Close { .. } => {}
        }
    }

    /// Hears what subscriptions have to say, and unsubscribes from what the program has dropped.
    fn attend(&mut self) {
        let now = Instant::now();
        self.acked.retain(|sub, half| {
            half.exchange(*sub, &mut self.core, now);
            let dropped = half.is_dropped();
            if dropped {
                self.core.unsubscribe(*sub, now);
            }
            !dropped
        });
        self.live_queries.retain(|sub, link| {
            let dropped = link.is_dropped();
            if dropped {
                self.core.unsubscribe(*sub, now);
            }
            !dropped
        });
        let gone: Vec<Sub> = self
            .subscriptions
            .iter()
            .filter_map(|(sub, deliveries)| deliveries.is_closed().then_some(*sub))
            .collect();
        for sub in gone {
            self.subscriptions.remove(&sub);
            self.core.unsubscribe(sub, now);
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
                        for (_, half) in self.acked.drain() {
                            half.end(Some(SubscriptionEnded::Failed { code }));
                        }
                        for (_, link) in self.live_queries.drain() {
                            link.end(Some(SubscriptionEnded::Failed { code }));
                        }
                    }
                    if state != State::Connected {
                        self.live_queries.values().for_each(Link::lost);
                    }
                    tracing::debug!(?state, "client state");
                    self.states.send_replace(state);
                }
                ClientOutput::Event { sub, event } => self.queue(sub, Delivery::Event(event)),
                ClientOutput::Ready { sub } => {
                    if let Some(half) = self.acked.get(&sub) {
                        half.exchange(sub, &mut self.core, Instant::now());
                    }
                }
                ClientOutput::Documents { sub, told } => {
                    if let Some(link) = self.live_queries.get(&sub) {
                        link.told(told);
                    }
                }
                ClientOutput::Notice { sub, notice: Notice::Ended(error) } => {
                    if let Some(link) = self.live_queries.remove(&sub) {
                        link.end(error.clone().map(|error| SubscriptionEnded::Refused(*error)));
                    }
                    if let Some(half) = self.acked.remove(&sub) {
                        half.end(error.clone().map(|error| SubscriptionEnded::Refused(*error)));
                    }
                    if let (Some(deliveries), Some(error)) =
                        (self.subscriptions.remove(&sub), error)
                    {
                        let ended = SubscriptionEnded::Refused(*error);
                        self.undelivered.push_back((deliveries, Err(ended)));
                    }
                }
                ClientOutput::Notice { sub, notice } => match self.live_queries.get(&sub) {
                    Some(link) => link.notice(&notice),
                    None => self.queue(sub, Delivery::Notice(notice)),
                },
                ClientOutput::Settled { key, result } => {
                    if let Some(settled) = self.appends.remove(&key) {
                        // Whoever has stopped waiting does not mind.
                        let _ = settled.send(result.map_err(AppendError::Refused));
                    }
                }
                ClientOutput::Answered { ticket, result } => {
                    if let Some(answered) = self.commands.remove(&ticket) {
                        let _ = answered.send(result.map_err(CommandError::Refused));
                    }
                }
                ClientOutput::Fetched { key, result } => {
                    if let Some(page) = self.fetches.remove(&key) {
                        let _ = page.send(result.map_err(FetchError::Refused));
                    }
                }
                ClientOutput::FetchedDocuments { key, result } => {
                    if let Some(page) = self.document_fetches.remove(&key) {
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
