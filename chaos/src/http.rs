//! HTTP/1.1, as little of it as it takes: one request a connection, with deadlines.
//!
//! Our own, so that what became of a request is known exactly: whether it was answered, and if
//! not, that it may have taken effect.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::content::{Expected, New, Seen, WireEvent, body};

/// Events in a page.
const PAGE: u64 = 1000;

/// A status and a body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks, and returns the whole answer. An error says nothing of what the request did.
pub(crate) async fn request(
    address: SocketAddr,
    within: Duration,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.context("cannot connect")?;
        let content = match body {
            None => String::new(),
            Some(body) => {
                let length = body.len();
                format!("content-type: application/json\r\ncontent-length: {length}\r\n")
            }
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{content}\r\n"
        );
        stream.write_all(head.as_bytes()).await.context("cannot ask")?;
        stream.write_all(body.unwrap_or_default().as_bytes()).await.context("cannot ask")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.context("no answer")?;
        parse(&answer)
    };
    timeout(within, exchange).await.context("no answer in time")?
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let text = std::str::from_utf8(answer).context("the answer is not UTF-8")?;
    let (head, body) = text.split_once("\r\n\r\n").context("the answer was cut off")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.context("the answer has no status")?;
    let head = head.to_ascii_lowercase();
    let body = if head.contains("transfer-encoding: chunked") {
        unchunk(body).context("the answer was cut off")?
    } else {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: Option<usize> = length.and_then(|length| length.trim().parse().ok());
        if length.is_some_and(|length| length != body.len()) {
            bail!("the answer was cut off");
        }
        body.to_owned()
    };
    Ok(Answer { status, body })
}

fn unchunk(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..size)?);
        chunks = rest.get(size + 2..)?;
    }
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Recorded: the position and the revision of its last event.
    Recorded { position: u64, revision: u64 },
    /// Refused for good: it has no effect.
    Refused { code: String },
    /// Refused for now: this request has no effect.
    NotNow { code: String },
    /// Nobody knows.
    Nothing,
}

/// Appends once.
pub(crate) async fn append(
    address: SocketAddr,
    within: Duration,
    stream: &str,
    expected: Expected,
    events: &[New],
) -> Told {
    let body = body(expected, events);
    let path = format!("/streams/{stream}");
    match request(address, within, "POST", &path, Some(&body)).await {
        Ok(answer) => told(&answer),
        Err(_) => Told::Nothing,
    }
}

fn told(answer: &Answer) -> Told {
    let Ok(body) = serde_json::from_str::<Value>(&answer.body) else { return Told::Nothing };
    if answer.status == 201 {
        return match (body["position"].as_u64(), body["revision"].as_u64()) {
            (Some(position), Some(revision)) => Told::Recorded { position, revision },
            _ => Told::Nothing,
        };
    }
    let error = &body["error"];
    let Some(code) = error["code"].as_str().map(str::to_owned) else { return Told::Nothing };
    match (code.as_str(), error["retryable"].as_bool()) {
        ("outcome_unknown" | "internal", _) => Told::Nothing,
        (_, Some(true)) => Told::NotNow { code },
        _ => Told::Refused { code },
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    more: bool,
}

/// Every event after a position, read page by page.
pub(crate) async fn log_after(address: SocketAddr, mut after: u64) -> Result<Vec<Seen>> {
    let mut log = Vec::new();
    loop {
        let path = format!("/events?after={after}&limit={PAGE}");
        let answer = request(address, Duration::from_secs(20), "GET", &path, None).await?;
        if answer.status != 200 {
            bail!("GET {path}: {} {}", answer.status, answer.body.trim());
        }
        let page: Page<'_> = serde_json::from_str(&answer.body).context("not a page")?;
        for event in page.events {
            let event: WireEvent<'_> = serde_json::from_str(event.get()).context("not an event")?;
            log.push(event.seen());
        }
        if !page.more {
            return Ok(log);
        }
        after = log.last().context("a page says that there is more, and has nothing")?.position;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_recorded_from_refused_from_unknown() {
        let error = |code: &str, retryable: bool| {
            format!(r#"{{"error":{{"code":"{code}","retryable":{retryable}}}}}"#)
        };
        for (status, body, expected) in [
            (
                201,
                r#"{"position":9,"revision":2}"#.to_owned(),
                Told::Recorded { position: 9, revision: 2 },
            ),
            (409, error("wrong_expected_revision", false), {
                Told::Refused { code: "wrong_expected_revision".to_owned() }
            }),
            (503, error("unavailable", true), Told::NotNow { code: "unavailable".to_owned() }),
            (500, error("outcome_unknown", false), Told::Nothing),
            (502, "bad gateway".to_owned(), Told::Nothing),
        ] {
            assert_eq!(told(&Answer { status, body: body.clone() }), expected, "{body}");
        }
    }

    #[test]
    fn an_answer_that_was_cut_off_is_no_answer() {
        assert!(parse(b"HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\n{}").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab").is_err());
        let whole = parse(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!((whole.status, whole.body.as_str()), (200, "{}"));
    }
}
