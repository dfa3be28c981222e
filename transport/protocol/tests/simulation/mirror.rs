//! What a bystander concludes about one connection's windows from the messages alone, by the rules
//! of PROTOCOL.md and without the session's own books: how many events are unsettled, what an
//! acknowledgement covers, and which events have given cause to be charged.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tidewire_eventstore::{GlobalPosition, StreamName};
use tidewire_protocol::{
    Delivery, NackAction, Sub,
    codec::json::{decode_client, decode_server},
    frame::{FrameDecoder, FrameLimits, Message},
    messages::{ClientMessage, ServerMessage, Subscription},
};

use crate::store::{Audience, Store};

#[derive(Debug)]
struct Sent {
    stream: StreamName,
    at: Instant,
    /// Whether it was counted that the client is silent about this sending.
    overdue: bool,
    /// The client does not have it: it is going to be sent again.
    away: bool,
    /// What was told when it was sent out of order to a client that did not have it.
    alone: Option<GlobalPosition>,
    /// Whether that was with the feed, in order with others that were.
    fed: bool,
}

#[derive(Debug)]
struct Books {
    audience: Audience,
    window: usize,
    told: GlobalPosition,
    sent: BTreeMap<GlobalPosition, Sent>,
}

/// The books of one connection.
pub(crate) struct Mirror {
    run: u64,
    ack_timeout: Duration,
    window_default: usize,
    books: BTreeMap<Sub, Books>,
    decoder: FrameDecoder,
}

impl Mirror {
    pub(crate) fn new(run: u64, ack_timeout: Duration, window_default: usize) -> Self {
        let decoder = FrameDecoder::new(FrameLimits::client(1 << 24));
        Self { run, ack_timeout, window_default, books: BTreeMap::new(), decoder }
    }

    /// The session is about to read `text`.
    pub(crate) fn client_says(&mut self, text: &Bytes, store: &mut Store) {
        for message in decode_client(text).expect("a sound client") {
            match message.expect("a sound client") {
                ClientMessage::Hello(hello) => {
                    for subscription in hello.subscriptions {
                        let Ok(Subscription::Feed(subscribe)) = subscription else {
                            panic!("a sound client of events")
                        };
                        self.subscribes(subscribe.sub, &subscribe.delivery);
                    }
                }
                ClientMessage::Subscribe(subscribe) => {
                    self.subscribes(subscribe.sub, &subscribe.delivery);
                }
                ClientMessage::Ack { sub, position } => self.acks(sub, position, store),
                ClientMessage::Nack { sub, nack } => {
                    for position in nack.positions {
                        self.nacks(sub, position, nack.action, store);
                    }
                }
                _ => {}
            }
        }
    }

    fn subscribes(&mut self, sub: Sub, delivery: &Delivery) {
        let audience = match delivery {
            Delivery::Plain => return,
            Delivery::Each { .. } => Audience::Own { run: self.run, sub: sub.get() },
            Delivery::Consumer { consumer, .. } => Audience::Consumer(consumer.name.clone()),
        };
        let window = delivery.window().map_or(self.window_default, |window| window.get() as usize);
        let told = GlobalPosition::START;
        self.books.insert(sub, Books { audience, window, told, sent: BTreeMap::new() });
    }

    fn acks(&mut self, sub: Sub, position: GlobalPosition, store: &mut Store) {
        let Some(books) = self.books.get_mut(&sub) else { return };
        let truth = store.truth(&books.audience);
        let named = books.sent.get(&position).is_some_and(|sent| sent.fed);
        books.sent.retain(|at, sent| {
            let covers = *at <= position
                && !sent.away
                && (sent.alone.is_none_or(|told| position == *at || position > told)
                    || named && sent.fed);
            assert!(
                !covers || truth.done.contains(at) || truth.put_aside.contains(at),
                "ack {position} of {:?} covers {at}, which nobody has settled",
                books.audience
            );
            !covers
        });
    }

    fn nacks(&mut self, sub: Sub, at: GlobalPosition, action: NackAction, store: &mut Store) {
        let Some(books) = self.books.get_mut(&sub) else { return };
        match action {
            NackAction::Retry { .. } => {
                let Some(stream) = books.sent.get(&at).map(|sent| sent.stream.clone()) else {
                    // It was settled before. The client has dropped what is later all the same.
                    if at <= books.told {
                        books.sent.range_mut(at..).for_each(|(_, later)| later.away = true);
                    }
                    return;
                };
                *store.truth(&books.audience).causes.entry(at).or_default() += 1;
                for (_, later) in books.sent.range_mut(at..) {
                    later.away |= later.stream == stream;
                }
            }
            NackAction::Park | NackAction::Skip => {
                books.sent.remove(&at);
                // Whoever wants it parked has attempted it.
                *store.truth(&books.audience).causes.entry(at).or_default() += 1;
            }
            NackAction::Stop => {}
        }
    }

    /// A feed has written an event.
    pub(crate) fn feeds(
        &mut self,
        sub: Sub,
        at: GlobalPosition,
        stream: &StreamName,
        now: Instant,
    ) {
        if let Some(books) = self.books.get_mut(&sub) {
            let alone = (at <= books.told).then_some(books.told);
            books.told = books.told.max(at);
            let sent = Sent {
                stream: stream.clone(),
                at: now,
                overdue: false,
                away: false,
                alone,
                fed: alone.is_some(),
            };
            assert!(books.sent.insert(at, sent).is_none(), "{at} is fed twice");
            books.check();
        }
    }

    /// The session has written frames.
    pub(crate) fn session_says(&mut self, bytes: &Bytes, store: &mut Store, now: Instant) {
        let mut bytes = BytesMut::from(&bytes[..]);
        while let Ok(Some(message)) = self.decoder.decode(&mut bytes) {
            let Message::Text(text) = message else { continue };
            match decode_server(&text).expect("a sound session") {
                ServerMessage::Events { sub, events } => {
                    for delivered in events {
                        let (at, stream) = (delivered.event.position, delivered.event.stream);
                        self.again(sub, at, stream, store, now);
                    }
                }
                ServerMessage::Parked { sub, positions, .. } => {
                    let Some(books) = self.books.get_mut(&sub) else { continue };
                    for at in positions {
                        books.silence(at, self.ack_timeout, store, now);
                        books.sent.remove(&at);
                    }
                }
                ServerMessage::Heartbeat { positions, .. } => {
                    for (sub, position) in positions {
                        if let Some(books) = self.books.get_mut(&sub) {
                            books.told = books.told.max(position);
                        }
                    }
                }
                ServerMessage::Live { sub, position }
                | ServerMessage::Behind { sub, position, .. } => {
                    if let Some(books) = self.books.get_mut(&sub) {
                        books.told = books.told.max(position);
                    }
                }
                ServerMessage::Unsubscribed { sub, .. } | ServerMessage::Reset { sub, .. } => {
                    self.books.remove(&sub);
                }
                _ => {}
            }
        }
    }

    /// An event is sent alone: again, or for the first time because it had to wait.
    fn again(
        &mut self,
        sub: Sub,
        at: GlobalPosition,
        stream: StreamName,
        store: &mut Store,
        now: Instant,
    ) {
        let Some(books) = self.books.get_mut(&sub) else { return };
        let with_client = books.sent.get(&at).filter(|sent| !sent.away);
        let here = with_client.is_some();
        // What the client has anyway, any acknowledgement may cover as before.
        let alone = with_client.map_or(Some(books.told), |sent| sent.alone);
        books.told = books.told.max(at);
        books.silence(at, self.ack_timeout, store, now);
        let silent = books.sent.get(&at).is_some_and(|sent| sent.overdue);
        assert!(!here || silent, "{at} is sent again before its time");
        books
            .sent
            .insert(at, Sent { stream, at: now, overdue: false, away: false, alone, fed: false });
        books.check();
    }

    /// Time has passed: the oldest event that a client has may have given cause to be charged.
    pub(crate) fn waits(&mut self, store: &mut Store, now: Instant) {
        for books in self.books.values_mut() {
            let oldest = books.sent.iter().find(|(_, sent)| !sent.away).map(|(at, _)| *at);
            if let Some(oldest) = oldest {
                books.silence(oldest, self.ack_timeout, store, now);
            }
        }
    }

    /// The client of a subscription has vanished: what it had alone may be why.
    pub(crate) fn vanishes(&mut self, sub: Sub, store: &mut Store) {
        if let Some(books) = self.books.get(&sub) {
            let mut with_client = books.sent.iter().filter(|(_, sent)| !sent.away);
            if let (Some((at, _)), None) = (with_client.next(), with_client.next()) {
                *store.truth(&books.audience).causes.entry(*at).or_default() += 1;
            }
        }
    }
}

impl Books {
    /// Counts the silence about an event as a cause to charge it, once a sending, if the client
    /// has had it for long enough.
    fn silence(&mut self, at: GlobalPosition, timeout: Duration, store: &mut Store, now: Instant) {
        if let Some(sent) = self.sent.get_mut(&at)
            && !sent.away
            && !sent.overdue
            && now >= sent.at + timeout
        {
            sent.overdue = true;
            *store.truth(&self.audience).causes.entry(at).or_default() += 1;
        }
    }

    fn check(&self) {
        assert!(
            self.sent.len() <= self.window,
            "{:?}: {} unsettled in a window of {}",
            self.audience,
            self.sent.len(),
            self.window
        );
    }
}
