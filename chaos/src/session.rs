//! A session by hand: a WebSocket and the JSON of PROTOCOL.md, without any of our client's code.
//!
//! So a fault of our client cannot hide one of the server, nor the reverse.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        self,
        client::IntoClientRequest,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};

use crate::content::WireEvent;

/// How long opening may take until `welcome`.
const OPEN: Duration = Duration::from_secs(5);
/// How long a send may take.
const SEND: Duration = Duration::from_secs(5);
/// A server that says nothing for this long, not even a Ping, is given up.
const SILENCE: Duration = Duration::from_secs(14);

/// A message of the server: the fields that any of them has.
#[derive(Debug, Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) sub: Option<u32>,
    pub(crate) after: Option<u64>,
    pub(crate) head: Option<u64>,
    pub(crate) position: Option<u64>,
    pub(crate) positions: Option<Value>,
    pub(crate) code: Option<Value>,
    pub(crate) reason: Option<String>,
    pub(crate) details: Option<Value>,
    pub(crate) retryable: Option<bool>,
    pub(crate) epoch: Option<String>,
    #[serde(borrow, default)]
    pub(crate) events: Vec<WireEvent<'a>>,
}

impl<'a> Message<'a> {
    /// Reads one.
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        serde_json::from_str(text).with_context(|| format!("not a message: {text:.200}"))
    }

    /// The heartbeat's position of a subscription.
    pub(crate) fn position_of(&self, sub: u32) -> Option<u64> {
        self.positions.as_ref()?.get(sub.to_string())?.as_u64()
    }

    /// The code, if it is a word.
    pub(crate) fn word(&self) -> &str {
        self.code.as_ref().and_then(Value::as_str).unwrap_or_default()
    }
}

/// An open session.
#[derive(Debug)]
pub(crate) struct Session {
    socket: WebSocketStream<TcpStream>,
    /// The log's epoch.
    pub(crate) epoch: String,
}

impl Session {
    /// Connects and says hello.
    ///
    /// # Errors
    ///
    /// There is no welcome in time.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        timeout(OPEN, Self::open_slowly(address)).await.context("no welcome in time")?
    }

    async fn open_slowly(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let mut request = format!("ws://{address}/ws").into_client_request()?;
        let protocol = HeaderValue::from_static("tidewire.v1.json");
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        let (socket, _) = client_async(request, stream).await?;
        let mut session = Self { socket, epoch: String::new() };
        session.send(&json!({"type": "hello", "protocol": 1, "client": "chaos"})).await?;
        let text = session.next().await?;
        let welcome = Message::parse(&text)?;
        match (welcome.kind.as_str(), welcome.epoch) {
            ("welcome", Some(epoch)) => Ok(Self { epoch, ..session }),
            _ => bail!("no welcome: {text}"),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// The socket is over, or takes nothing.
    pub(crate) async fn send(&mut self, message: &Value) -> Result<()> {
        let message = tungstenite::Message::text(message.to_string());
        timeout(SEND, self.socket.send(message)).await.context("it takes nothing")??;
        Ok(())
    }

    /// The next message. Giving up the wait loses nothing.
    ///
    /// # Errors
    ///
    /// The socket is over, or there was no sign of life for too long.
    pub(crate) async fn next(&mut self) -> Result<String> {
        loop {
            let next = timeout(SILENCE, self.socket.next()).await.context("silence")?;
            match next.ok_or_else(|| anyhow!("ended"))?? {
                tungstenite::Message::Text(text) => return Ok(text.as_str().to_owned()),
                tungstenite::Message::Close(_) => bail!("closed"),
                _ => self.socket.flush().await?,
            }
        }
    }
}
