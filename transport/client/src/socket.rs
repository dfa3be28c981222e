//! One WebSocket: opened with our subprotocol, written and read without losing anything when a
//! wait is given up.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tidewire_protocol::CloseCode;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error, Message, Utf8Bytes,
        client::IntoClientRequest,
        http::{HeaderValue, Request, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::{CloseFrame, frame::coding},
    },
};

/// The subprotocol that this client speaks.
const SUBPROTOCOL: HeaderValue = HeaderValue::from_static("tidewire.v1.json");

/// What came in.
pub(crate) enum Incoming {
    Text(Bytes),
    /// Something that only shows that the server lives.
    Sign,
    /// The socket is over.
    Over(CloseCode),
}

/// The request that opens a socket to `url`.
pub(crate) fn request(url: &str) -> Result<Request<()>, Error> {
    let mut request = url.into_client_request()?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    Ok(request)
}

/// An open socket.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    outgoing: VecDeque<Message>,
}

impl Socket {
    pub(crate) async fn open(request: Request<()>) -> Result<Self, Error> {
        let (stream, _) = connect_async(request).await?;
        Ok(Self { stream, outgoing: VecDeque::new() })
    }

    /// Queues a text message. The caller bounds what it queues.
    pub(crate) fn send(&mut self, text: Bytes) {
        match Utf8Bytes::try_from(text) {
            Ok(text) => self.outgoing.push_back(Message::Text(text)),
            Err(_) => debug_assert!(false, "messages are written as UTF-8"),
        }
    }

    /// Queues a Close frame.
    pub(crate) fn close(&mut self, code: CloseCode) {
        let code = coding::CloseCode::from(code.0);
        let frame = CloseFrame { code, reason: Utf8Bytes::default() };
        self.outgoing.push_back(Message::Close(Some(frame)));
    }

    /// Writes what is queued and waits for what comes in, or for ever unless `read`. Giving up
    /// the wait loses nothing.
    pub(crate) async fn next(&mut self, read: Reading) -> Incoming {
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                return Poll::Ready(Incoming::Over(code_of(&error)));
            }
            if read == Reading::Paused {
                return Poll::Pending;
            }
            let incoming = match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => Incoming::Over(CloseCode::ABNORMAL),
                Poll::Ready(Some(Err(error))) => Incoming::Over(code_of(&error)),
                Poll::Ready(Some(Ok(Message::Text(text)))) => Incoming::Text(text.into()),
                Poll::Ready(Some(Ok(Message::Close(frame)))) => Incoming::Over(
                    frame.map_or(CloseCode::NO_STATUS, |frame| CloseCode(frame.code.into())),
                ),
                Poll::Ready(Some(Ok(_))) => Incoming::Sign,
            };
            // The answer to a Ping or a Close frame is queued by reading it.
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
            Poll::Ready(incoming)
        })
        .await
    }

    /// Writes what is queued, all of it.
    pub(crate) async fn flush(&mut self) {
        let _ = poll_fn(|cx| self.poll_write(cx)).await;
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut stream = Pin::new(&mut self.stream);
        while !self.outgoing.is_empty() {
            match stream.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            if let Some(message) = self.outgoing.pop_front() {
                stream.as_mut().start_send(message)?;
            }
        }
        stream.poll_flush(cx)
    }
}

/// Whether a socket is read just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    On,
    Paused,
}

/// What an error of the socket means to the protocol. A message that is too large or not UTF-8
/// is the server's fault or a broken wire: connecting again may help.
fn code_of(_: &Error) -> CloseCode {
    CloseCode::ABNORMAL
}
