//! The session actor: one a connected client, on a plain Actix context.
//!
//! It only carries. It reads the socket through the strict frame decoder, tells the pure session
//! what came and what time it is, and sees to what the session asks of the store. What the client
//! is sent does not pass through here: the socket's [body](crate::outbound) pulls it.

mod commands;

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll},
    time::Instant,
};

use actix::{Actor, ActorContext, AsyncContext, Context, WrapFuture, fut::ActorFuture};
use actix_web::web::Payload;
use bytes::BytesMut;
use futures_util::Stream;
use tidewire_protocol::{
    ErrorCode, Input, Output,
    frame::{FrameDecoder, Message},
};
use tokio::time::{Sleep, sleep_until};

use commands::CommandQueue;

use crate::{
    answers::{self, append_error, fetch_error, read_error},
    consumers::Notice,
    session_cell::SessionCell,
};

/// The actor of one session.
pub(crate) struct SessionActor {
    session: Rc<SessionCell>,
    key: usize,
    commands: CommandQueue,
}

impl SessionActor {
    /// Starts the actor of `session`, which reads `payload`.
    pub(crate) fn start(session: Rc<SessionCell>, decoder: FrameDecoder, payload: Payload) {
        let key = session.worker().enter(session.clone());
        Self::create(|ctx| {
            ctx.spawn(Drive {
                payload,
                decoder,
                buffer: BytesMut::new(),
                timer: None,
                open: true,
                broken: false,
            });
            Self { session, key, commands: CommandQueue::default() }
        });
    }

    /// Sees to one thing that the session asks for.
    fn act(&mut self, output: Output, ctx: &mut Context<Self>) {
        let session = self.session.clone();
        let node = session.worker().node().clone();
        match output {
            Output::Append { id, append } => {
                let stream = append.stream.clone();
                // Queued here and now, so that appends take effect in the order they came in.
                match node.store.append(answers::append(append)) {
                    Err(error) => {
                        session.handle(Input::Answer { id, answer: Err(append_error(&error)) });
                    }
                    Ok(pending) => {
                        let answered = async move {
                            let answer = pending.await.map_err(|error| append_error(&error));
                            let answer = answer.map(|done| answers::appended(stream, done));
                            session.handle(Input::Answer { id, answer });
                        };
                        ctx.spawn(answered.into_actor(self));
                    }
                }
            }
            Output::Fetch { id, fetch } => {
                let answered = async move {
                    let by_revision = answers::is_by_revision(&fetch);
                    let page = node.fetch(answers::read(fetch)).await;
                    let answer = page
                        .map(|page| answers::page(page, by_revision))
                        .map_err(|error| fetch_error(&error));
                    session.fetched(Input::Answer { id, answer });
                };
                ctx.spawn(answered.into_actor(self));
            }
            Output::Query { id, mut request } => {
                let answered = async move {
                    if let Err(error) = node.live.wait(&request).await {
                        return session.handle(Input::Answer { id, answer: Err(error) });
                    }
                    if request.wait.take().is_some() {
                        return session.read_page(Output::Query { id, request });
                    }
                    let page = node.documents(*request).await;
                    session.fetched(Input::Answer { id, answer: page.map(answers::documents) });
                };
                ctx.spawn(answered.into_actor(self));
            }
            Output::CheckHead { sub } => {
                let answered = async move {
                    let head = node.store_head().await.map_err(|error| read_error(&error));
                    session.handle(Input::HeadChecked { sub, head });
                };
                ctx.spawn(answered.into_actor(self));
            }
            Output::CheckRemoved { sub, target, after } => {
                let answered = async move {
                    let first = node.retained_after(answers::target(&target), after).await;
                    let first = first.map_err(|error| read_error(&error));
                    session.handle(Input::RemovedChecked { sub, first });
                };
                ctx.spawn(answered.into_actor(self));
            }
            Output::Command { id, command } => self.command(id, command, ctx),
            Output::Claim { sub, claim } => {
                let member = session.stayed(&claim.consumer.name);
                let claimed = async move {
                    let claimed = node.consumers.claim(*claim, member).await;
                    let Some((member, mut news)) = session.claimed(sub, claimed) else { return };
                    while let Some(notice) = news.recv().await {
                        session.news_of(member, |sub| match notice {
                            Notice::Rebalance => Input::Rebalance { sub },
                            Notice::Replay(events) => Input::Replay { sub, events },
                        });
                    }
                    session.news_of(member, |sub| Input::Taken { sub });
                };
                ctx.spawn(claimed.into_actor(self));
            }
            Output::Save { sub, progress } => {
                // Without a member the consumer was released since.
                let Some(member) = session.member(sub) else { return };
                let saving = node.consumers.save(member, progress);
                let saved = async move {
                    let saved = match saving {
                        // Without an answer the release has taken the save's place.
                        Some(saving) => match saving.await {
                            Ok(saved) => saved,
                            Err(_) => return,
                        },
                        None => Err(ErrorCode::ConsumerTaken.into()),
                    };
                    session.news_of(member, |sub| Input::Saved { sub, saved });
                };
                ctx.spawn(saved.into_actor(self));
            }
            Output::Read { sub, position } => {
                let read = async move {
                    let page = node.fetch(answers::read_one(position)).await;
                    let event = page
                        .map(|page| page.events.into_iter().next().map(Box::new))
                        .map_err(|error| fetch_error(&error));
                    session.handle(Input::Read { sub, position, event });
                };
                ctx.spawn(read.into_actor(self));
            }
            // Performed by the cell itself.
            Output::Send(_)
            | Output::Pong(_)
            | Output::Open { .. }
            | Output::Shut { .. }
            | Output::Release { .. }
            | Output::CheckQuery { .. }
            | Output::Watch { .. }
            | Output::Positions
            | Output::RoundTrip(_)
            | Output::Close { .. } => {}
        }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        let info = self.session.info();
        tracing::debug!(session = %info.id, address = ?info.address, "session opened");
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let worker = self.session.worker();
        let code = self.session.close_code();
        worker.leave(self.key);
        worker.node().dismiss();
        worker.node().metrics.closed(code);
        tracing::debug!(session = %self.session.info().id, code = code.0, "session closed");
    }
}

/// Reads the socket and keeps the session's time, for as long as the connection lives.
struct Drive {
    payload: Payload,
    decoder: FrameDecoder,
    buffer: BytesMut,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    /// The socket may have more for us.
    open: bool,
    /// What comes cannot be decoded any more, and is thrown away.
    broken: bool,
}

impl ActorFuture<SessionActor> for Drive {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut SessionActor,
        ctx: &mut Context<SessionActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        let session = actor.session.clone();
        loop {
            session.set_actor(task.waker());
            while let Some(action) = session.next_action() {
                actor.act(action, ctx);
            }
            if session.is_gone() {
                ctx.stop();
                return Poll::Ready(());
            }
            let read = self.read(&session, task);
            let timed = self.keep_time(&session, task);
            if !read && !timed {
                return Poll::Pending;
            }
        }
    }
}

impl Drive {
    /// Reads what the socket has, if the session may be given more. Returns whether anything came.
    fn read(&mut self, session: &Rc<SessionCell>, task: &mut TaskContext<'_>) -> bool {
        if !self.open || !session.may_read() {
            return false;
        }
        // First what was read before: the session may have become busy in the middle of it.
        if self.decode(session) {
            return true;
        }
        match Pin::new(&mut self.payload).poll_next(task) {
            Poll::Pending => false,
            Poll::Ready(Some(Ok(bytes))) => {
                session.received(bytes.len());
                if !self.broken {
                    self.buffer.extend_from_slice(&bytes);
                    self.decode(session);
                }
                true
            }
            Poll::Ready(Some(Err(_)) | None) => {
                self.open = false;
                session.handle(Input::Gone);
                true
            }
        }
    }

    /// Decodes what was read, message by message, for as long as the session may be given more.
    /// Returns whether there was a message.
    fn decode(&mut self, session: &Rc<SessionCell>) -> bool {
        let mut any = false;
        while self.open && !self.broken && !self.buffer.is_empty() && session.may_read() {
            self.decoder.limit(session.message_bytes_max() as u64);
            match self.decoder.decode(&mut self.buffer) {
                Ok(None) => break,
                Ok(Some(message)) => {
                    any = true;
                    session.received_message();
                    let closes = matches!(message, Message::Close(_));
                    session.handle(Input::Message(message));
                    if closes {
                        self.open = false;
                    }
                }
                Err(error) => {
                    any = true;
                    tracing::debug!(session = %session.info().id, %error, "bad frame");
                    self.broken = true;
                    self.buffer.clear();
                    session.handle(Input::Broken(error));
                }
            }
        }
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            // An idle session keeps no buffer.
            self.buffer = BytesMut::new();
        }
        any
    }

    /// Tells the session the time when it is due. Returns whether it was.
    fn keep_time(&mut self, session: &Rc<SessionCell>, task: &mut TaskContext<'_>) -> bool {
        let Some(due) = session.next_timeout() else {
            self.timer = None;
            return false;
        };
        match &mut self.timer {
            Some((at, _)) if *at == due => {}
            Some((at, sleep)) => {
                *at = due;
                sleep.as_mut().reset(due.into());
            }
            None => self.timer = Some((due, Box::pin(sleep_until(due.into())))),
        }
        let (_, sleep) = self.timer.as_mut().expect("it was set just now");
        if sleep.as_mut().poll(task).is_pending() {
            return false;
        }
        // A timer that has fired must not be polled again: the next one is made anew.
        self.timer = None;
        session.timeout(Instant::now());
        true
    }
}
