//! [`EventView`]: an event whose data and metadata are parsed when they are first asked for.

use std::cell::OnceCell;

use bytes::BytesMut;
use serde_json::Value;
use tidewire_eventstore::{Payload, RecordedEvent};
use tidewire_protocol::codec::json::format_time;

use crate::projection::ProjectError;

/// An event to look into.
pub(super) struct EventView<'a> {
    event: &'a RecordedEvent,
    data: OnceCell<Option<Value>>,
    meta: OnceCell<Option<Value>>,
}

impl<'a> EventView<'a> {
    pub(super) fn new(event: &'a RecordedEvent) -> Self {
        Self { event, data: OnceCell::new(), meta: OnceCell::new() }
    }

    /// The event.
    pub(super) fn event(&self) -> &'a RecordedEvent {
        self.event
    }

    /// Its data; none where that is not JSON.
    pub(super) fn data(&self) -> Result<Option<&Value>, ProjectError> {
        let text = match &self.event.payload {
            Payload::Json(text) => Some(text.as_ref()),
            _ => None,
        };
        parsed(&self.data, text)
    }

    /// The same, to keep; afterwards there is none.
    pub(super) fn take_data(&mut self) -> Result<Option<Value>, ProjectError> {
        self.data()?;
        Ok(self.data.get_mut().and_then(Option::take))
    }

    /// Its metadata.
    pub(super) fn meta(&self) -> Result<Option<&Value>, ProjectError> {
        parsed(&self.meta, self.event.meta.as_deref())
    }

    /// When it was recorded, as RFC 3339 has it.
    pub(super) fn at(&self) -> String {
        let mut text = BytesMut::new();
        format_time(self.event.recorded_at, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn parsed<'c>(
    cell: &'c OnceCell<Option<Value>>,
    text: Option<&[u8]>,
) -> Result<Option<&'c Value>, ProjectError> {
    if let Some(value) = cell.get() {
        return Ok(value.as_ref());
    }
    let value =
        text.map(serde_json::from_slice).transpose().map_err(|error: serde_json::Error| {
            ProjectError::EventUnreadable { reason: error.to_string() }
        })?;
    Ok(cell.get_or_init(|| value).as_ref())
}
