//! The application as a process of its own, and its clients: plain HTTP, and a WebSocket by hand.

#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

/// No answer may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running application. Killed (`SIGKILL`) when it is dropped.
pub(crate) struct Application {
    child: Child,
    pub(crate) address: String,
}

impl Application {
    /// Starts it on a free port, with its log in `directory`.
    pub(crate) fn start(directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_embed"))
            .args(["127.0.0.1:0", "embed.db"])
            .current_dir(directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, address }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP request; the whole answer.
pub(crate) fn ask(address: &str, request: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Sends a command by HTTP: status and answer; none where the application is gone before it has
/// answered.
pub(crate) fn post(address: &str, data: &Value, key: Option<&str>) -> Option<(u16, Value)> {
    let mut body = json!({ "data": data });
    if let Some(key) = key {
        body["key"] = key.into();
    }
    let answer = ask(address, "POST /log/commands/place-order", &body.to_string()).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

/// The payloads of all events, oldest first.
pub(crate) fn events(address: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut after = 0;
    loop {
        let answer = ask(address, &format!("GET /log/events?after={after}"), "").unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let page: Value = serde_json::from_str(body).unwrap();
        let found = page["events"].as_array().unwrap().iter();
        events.extend(found.map(|event| event["data"].clone()));
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return events,
        }
    }
}

/// A session.
pub(crate) struct Session(WebSocket<TcpStream>);

impl Session {
    /// Connects, says hello and is welcomed.
    pub(crate) fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = client(format!("ws://{address}/log/ws"), stream).unwrap();
        let mut session = Self(socket);
        session.send(&json!({ "type": "hello", "protocol": 1 }));
        assert_eq!(session.receive()["type"], "welcome");
        session
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message but heartbeats.
    pub(crate) fn receive(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] != "heartbeat" {
                    return message;
                }
            }
        }
    }
}
