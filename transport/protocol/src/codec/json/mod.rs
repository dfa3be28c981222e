//! Messages as JSON text (subprotocol `tidewire.v1.json`).
//!
//! Events are the hot path and are written without serde ([`encode_event`],
//! [`encode_events_frame`]); everything else is rare. Payloads and metadata are JSON already and
//! pass through byte for byte.

mod client_message;
mod delivery;
mod documents;
mod event;
mod query;
mod read;
mod server_message;
mod summary;
mod time;
mod write;

pub use client_message::{Malformed, decode_append, decode_client, encode_client};
pub use delivery::decode_command;
pub use documents::{
    change_bytes, document_bytes, encode_changes_frame, encode_state_frame, write_document,
};
pub use event::{
    decode_delivered, decode_event, encode_delivered, encode_event, encode_events_frame,
    event_bytes,
};
pub use server_message::{DecodeError, decode_server, encode_error, encode_server};
pub use summary::encode_summary_frame;
pub use time::{format_time, parse_time};
