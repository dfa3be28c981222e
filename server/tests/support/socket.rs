//! A client that speaks the protocol by hand, over a real WebSocket.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

use super::{Api, PATIENCE};

/// An open session.
pub(crate) struct Socket {
    socket: WebSocket<TcpStream>,
    /// Messages of an array that were not asked for yet.
    arrived: VecDeque<Value>,
}

impl Socket {
    /// Connects, says hello and is welcomed.
    pub(crate) fn connect(api: &Api) -> Self {
        let address = api.url().replace("http://", "");
        let stream = TcpStream::connect(&address).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = client(format!("ws://{address}/ws"), stream).unwrap();
        let mut socket = Self { socket, arrived: VecDeque::new() };
        socket.send(&json!({"type": "hello", "protocol": 1}));
        socket.wait_for("welcome", PATIENCE);
        socket
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message of a type, which has to come in time; others are passed over.
    pub(crate) fn wait_for(&mut self, wanted: &str, within: Duration) -> Value {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_within(left) {
                Some(message) if message["type"] == wanted => return message,
                Some(_) => {}
                None => panic!("no {wanted} within {within:?}"),
            }
        }
    }

    /// The next message, if one comes in time.
    pub(crate) fn next_within(&mut self, within: Duration) -> Option<Value> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(message) = self.arrived.pop_front() {
                return Some(message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket.get_ref().set_read_timeout(Some(left)).unwrap();
            match self.socket.read() {
                Ok(Message::Text(text)) => match serde_json::from_str(&text).unwrap() {
                    Value::Array(messages) => self.arrived.extend(messages),
                    message => self.arrived.push_back(message),
                },
                Ok(Message::Close(frame)) => panic!("closed: {frame:?}"),
                Ok(_) => {}
                Err(Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return None;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The code and the reason with which the server closes the session.
    pub(crate) fn wait_for_close(&mut self) -> (u16, String) {
        self.socket.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        loop {
            if let Message::Close(frame) = self.socket.read().unwrap() {
                let frame = frame.expect("the server gives a code");
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }
}
