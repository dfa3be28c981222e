//! Projections and what they parked as rows to print, the same whether a server or the database
//! told of them.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tidewire_eventstore::{GlobalPosition, Timestamp};
use tidewire_projections::{
    ProjectionState,
    documents::{GenerationStatus, Parked, Status, Stopped, Wish},
};
use tidewire_protocol::codec::json::format_time;

/// A projection, with the fields that it has over HTTP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProjectionRow {
    pub(crate) name: String,
    state: String,
    version: u32,
    pub(crate) generation: u64,
    pub(crate) checkpoint: u64,
    pub(crate) head: u64,
    lag_events: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lag_seconds: Option<f64>,
    #[serde(default)]
    owner: Option<OwnerRow>,
    #[serde(default)]
    pub(crate) stopped: Option<StoppedRow>,
    parked: u64,
    #[serde(default)]
    pub(crate) building: Option<BuildingRow>,
    #[serde(default)]
    pub(crate) wish: Option<String>,
}

/// The node that writes a projection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OwnerRow {
    node: String,
    lease_until: String,
}

/// Why a projection goes no further.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoppedRow {
    position: Option<u64>,
    reason: String,
}

/// A generation that is being built.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BuildingRow {
    pub(crate) generation: u64,
    version: u32,
    pub(crate) position: u64,
    pub(crate) head: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events_per_second: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_ms: Option<u64>,
    parked: u64,
    #[serde(default)]
    pub(crate) stopped: Option<StoppedRow>,
}

/// An event that a projection put aside, with the fields that it has over HTTP.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ParkedRow {
    pub(crate) position: u64,
    reason: String,
}

impl ProjectionRow {
    /// What a database tells of a projection, with the log's head and how long ago the first event
    /// was recorded that is not in the documents.
    pub(crate) fn stored(status: Status, head: GlobalPosition, lag_seconds: Option<f64>) -> Self {
        // What version a server has in its settings is not known here.
        let state = ProjectionState::of(&status, status.active.version);
        let Status { name, active, building, owner, wish, .. } = status;
        Self {
            name: name.to_string(),
            state: state.as_str().to_owned(),
            version: active.version,
            generation: active.generation.get(),
            checkpoint: active.checkpoint.get(),
            head: head.get(),
            lag_events: head.get().saturating_sub(active.checkpoint.get()),
            lag_seconds,
            owner: owner
                .map(|(node, until)| OwnerRow { node: node.to_string(), lease_until: time(until) }),
            stopped: active.stopped.map(StoppedRow::from),
            parked: active.parked,
            building: building.map(|building| BuildingRow::stored(building, head)),
            wish: wish.map(|wish| word_of(wish).to_owned()),
        }
    }

    /// JSON on one line.
    pub(crate) fn json(&self) -> Result<String> {
        serde_json::to_string(self).context("rows are always JSON")
    }

    /// The projection on one line.
    pub(crate) fn line(&self) -> String {
        let Self { name, state, version, checkpoint, lag_events, parked, .. } = self;
        let mut line = format!(
            "{name}  {state}  version {version}  checkpoint {checkpoint}  behind {lag_events}  parked {parked}"
        );
        if let Some(building) = &self.building {
            let _ = write!(line, "  rebuilding {}%", building.percent());
        }
        line
    }

    /// Everything about the projection.
    pub(crate) fn paragraph(&self) -> String {
        let mut text = self.line();
        let _ = write!(text, "\ngeneration {}", self.generation);
        match self.lag_seconds {
            Some(seconds) => {
                let _ = write!(text, "\nhead {}, {seconds:.1} s behind", self.head);
            }
            None => {
                let _ = write!(text, "\nhead {}", self.head);
            }
        }
        match &self.owner {
            Some(OwnerRow { node, lease_until }) => {
                let _ = write!(text, "\nowned by {node}, until {lease_until} unless it goes on");
            }
            None => text.push_str("\nowned by nobody"),
        }
        if let Some(wish) = &self.wish {
            let _ = write!(text, "\nasked to {wish}, not done yet");
        }
        if let Some(stopped) = &self.stopped {
            let _ = write!(text, "\n{}", stopped.line());
        }
        if let Some(building) = &self.building {
            let BuildingRow { generation, version, position, head, parked, .. } = building;
            let _ = write!(
                text,
                "\nbuilding generation {generation} of version {version}: {position} of {head}, parked {parked}"
            );
            if let (Some(rate), Some(left)) = (building.events_per_second, building.left_ms) {
                let _ = write!(text, ", {rate:.0} events/s, {:.1} s left", left as f64 / 1e3);
            }
            if let Some(stopped) = &building.stopped {
                let _ = write!(text, "\n{}", stopped.line());
            }
        }
        text
    }
}

impl BuildingRow {
    fn stored(status: GenerationStatus, head: GlobalPosition) -> Self {
        Self {
            generation: status.generation.get(),
            version: status.version,
            position: status.checkpoint.get(),
            head: head.get(),
            events_per_second: None,
            left_ms: None,
            parked: status.parked,
            stopped: status.stopped.map(StoppedRow::from),
        }
    }

    fn percent(&self) -> u64 {
        (self.position * 100).checked_div(self.head).unwrap_or(100)
    }
}

impl StoppedRow {
    /// Where it stopped and why, on one line.
    pub(crate) fn line(&self) -> String {
        let reason = on_one_line(&self.reason);
        match self.position {
            Some(position) => format!("stopped at position {position}: {reason}"),
            None => format!("stopped: {reason}"),
        }
    }
}

impl From<Stopped> for StoppedRow {
    fn from(stopped: Stopped) -> Self {
        Self { position: stopped.position.map(GlobalPosition::get), reason: stopped.reason }
    }
}

impl From<Parked> for ParkedRow {
    fn from(parked: Parked) -> Self {
        Self { position: parked.position.get(), reason: parked.reason }
    }
}

impl ParkedRow {
    /// JSON on one line.
    pub(crate) fn json(&self) -> Result<String> {
        serde_json::to_string(self).context("rows are always JSON")
    }

    /// The event on one line.
    pub(crate) fn line(&self) -> String {
        format!("{:>8}  {}", self.position, on_one_line(&self.reason))
    }
}

/// What a wish is called over HTTP and on the command line.
pub(crate) const fn word_of(wish: Wish) -> &'static str {
    match wish {
        Wish::Rebuild => "rebuild",
        Wish::Cancel => "cancel",
        Wish::Resume => "resume",
        Wish::Skip => "skip",
        _ => "do something that this program does not know",
    }
}

/// A reason may quote what an event said: it stays on its line.
fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn time(time: Timestamp) -> String {
    let mut text = BytesMut::new();
    format_time(time, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
