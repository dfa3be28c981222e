//! What the measured server says of itself, over HTTP.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The value of a metric without labels.
///
/// # Errors
///
/// The server does not answer, or has no such metric.
pub(super) async fn metric(server: SocketAddr, name: &str) -> Result<f64> {
    let text = get(server, "/metrics").await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("the server has no metric {name}"))?.trim().parse()?)
}

/// How many sessions are behind the head by at least one event.
///
/// # Errors
///
/// The server does not answer.
pub(super) async fn sessions_behind(server: SocketAddr) -> Result<usize> {
    #[derive(Deserialize)]
    struct Session {
        lag_events: u64,
    }
    #[derive(Deserialize)]
    struct Sessions {
        sessions: Vec<Session>,
    }
    let list: Sessions = serde_json::from_str(&get(server, "/sessions?limit=10000").await?)?;
    Ok(list.sessions.iter().filter(|session| session.lag_events > 0).count())
}

async fn get(server: SocketAddr, path: &str) -> Result<String> {
    let mut socket = TcpStream::connect(server).await?;
    // HTTP/1.0: the body ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nhost: {server}\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no answer to {path}") };
    if head.split(' ').nth(1) != Some("200") {
        bail!("{path} was answered with {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
