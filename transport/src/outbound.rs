//! The socket's outgoing half: a response body that pulls from its session when there is room.
//!
//! With [`tune`](crate::tune) in force, actix-http asks for more only once the kernel has accepted
//! every byte that it was given; without, up to 32 KiB may wait in its buffer, and the count of
//! unsent bytes reads low by as much.

use std::{
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::session_cell::{Chunk, SessionCell};

/// The body of the response to a WebSocket handshake.
pub(crate) struct Outbound {
    session: Rc<SessionCell>,
}

impl Outbound {
    pub(crate) fn new(session: Rc<SessionCell>) -> Self {
        Self { session }
    }
}

impl MessageBody for Outbound {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        match self.session.next_chunk(cx.waker()) {
            Chunk::Write(bytes) => Poll::Ready(Some(Ok(bytes))),
            Chunk::Wait => Poll::Pending,
            Chunk::End => Poll::Ready(None),
        }
    }
}

impl Drop for Outbound {
    /// The connection is gone, by whoever's doing.
    fn drop(&mut self) {
        self.session.socket_gone();
    }
}
