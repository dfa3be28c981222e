//! Consumers and parked events as rows to print, the same whether a server or the database told
//! of them.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidewire_eventstore::{ConsumerInfo, ParkedInfo, Sharing, Target, Timestamp};
use tidewire_protocol::codec::json::format_time;

/// A consumer, with the fields that it has over HTTP.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConsumerRow {
    pub(crate) name: String,
    sharing: String,
    to: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<Value>,
    created_at: String,
    checkpoint: u64,
    parked: u64,
    holders: Vec<HolderRow>,
}

/// One who holds a consumer.
#[derive(Debug, Serialize, Deserialize)]
struct HolderRow {
    member: String,
    node: String,
    partitions: usize,
}

/// A parked event, with the fields that it has over HTTP.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ParkedRow {
    pub(crate) position: u64,
    stream: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    attempts: u32,
    reason: String,
    at: String,
    replaying: bool,
}

impl From<ConsumerInfo> for ConsumerRow {
    fn from(info: ConsumerInfo) -> Self {
        let to = match &info.target {
            Target::All => json!({ "all": true }),
            Target::Category(category) => json!({ "category": category }),
            Target::Stream(stream) => json!({ "stream": stream }),
        };
        let sharing = match info.sharing {
            Sharing::Exclusive => "exclusive",
            Sharing::Group => "group",
        };
        let holders = info.holders.into_iter().map(|holder| HolderRow {
            member: holder.member.as_uuid().to_string(),
            node: holder.node,
            partitions: holder.partitions.len(),
        });
        Self {
            name: info.name.to_string(),
            sharing: sharing.to_owned(),
            to,
            filter: info.filter.map(|filter| {
                serde_json::from_str(&filter).unwrap_or_else(|_| Value::from(filter))
            }),
            created_at: time(info.created_at),
            checkpoint: info.checkpoint.get(),
            parked: info.parked,
            holders: holders.collect(),
        }
    }
}

impl From<ParkedInfo> for ParkedRow {
    fn from(info: ParkedInfo) -> Self {
        Self {
            position: info.position.get(),
            stream: info.stream.map(|stream| stream.to_string()),
            event_type: info.event_type.map(|event_type| event_type.to_string()),
            attempts: info.attempts,
            reason: info.reason,
            at: time(info.parked_at),
            replaying: info.replaying,
        }
    }
}

impl ConsumerRow {
    /// JSON on one line.
    pub(crate) fn json(&self) -> Result<String> {
        serde_json::to_string(self).context("rows are always JSON")
    }

    /// The consumer on one line.
    pub(crate) fn line(&self) -> String {
        let Self { name, sharing, checkpoint, parked, .. } = self;
        let holders = self.holders.len();
        let target = self.target();
        format!(
            "{name}  {sharing} of {target}  checkpoint {checkpoint}  parked {parked}  holders {holders}"
        )
    }

    /// Everything about the consumer.
    pub(crate) fn paragraph(&self) -> String {
        let mut text = format!("{}\ncreated {}", self.line(), self.created_at);
        if let Some(filter) = &self.filter {
            let _ = write!(text, "\nfilter {filter}");
        }
        for HolderRow { member, node, partitions } in &self.holders {
            let _ = write!(text, "\nheld by {member} on {node}, partitions {partitions}");
        }
        text
    }

    fn target(&self) -> String {
        match (self.to.get("category"), self.to.get("stream")) {
            (Some(Value::String(category)), _) => format!("category {category}"),
            (_, Some(Value::String(stream))) => format!("stream {stream}"),
            _ => "all streams".to_owned(),
        }
    }
}

impl ParkedRow {
    /// JSON on one line.
    pub(crate) fn json(&self) -> Result<String> {
        serde_json::to_string(self).context("rows are always JSON")
    }

    /// The event on one line.
    pub(crate) fn line(&self) -> String {
        let Self { position, at, attempts, .. } = self;
        let stream = self.stream.as_deref().unwrap_or("-");
        let event_type = self.event_type.as_deref().unwrap_or("-");
        let replaying = if self.replaying { "  (replaying)" } else { "" };
        // A reason is a client's text: it stays on its line.
        let reason: String =
            self.reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!(
            "{position:>8}  {at}  {stream}  {event_type}  attempts {attempts}  {reason}{replaying}"
        )
    }
}

fn time(time: Timestamp) -> String {
    let mut text = BytesMut::new();
    format_time(time, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
