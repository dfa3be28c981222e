//! What happens to mailboxes and messages. A mailbox is the stream `mailbox-<id>`, a message the
//! stream `message-<id>`. The names of the variants are the types of the events, their fields the
//! data.
//!
//! An event says whatever its readers need: which mailbox a message leaves, and whether it was
//! unread. So a projection of mailboxes can count without knowing every message.

use serde::{Deserialize, Serialize};

/// What happens to a mailbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::enum_variant_names,
    reason = "the names are those of the events, which stand alone in the log"
)]
pub(crate) enum MailboxEvent {
    /// It was made.
    MailboxCreated { name: String },
    /// It has another name.
    MailboxRenamed { name: String },
    /// It is gone.
    MailboxDeleted {},
}

/// What happens to a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::enum_variant_names,
    reason = "the names are those of the events, which stand alone in the log"
)]
pub(crate) enum MessageEvent {
    /// It came into a mailbox, unread.
    MessageDelivered {
        mailbox: String,
        from: String,
        subject: String,
        body: String,
        /// When, in milliseconds since 1970.
        received_at: i64,
    },
    /// Somebody has read it.
    MessageRead { mailbox: String },
    /// It counts as unread again.
    MessageUnread { mailbox: String },
    /// It is in another mailbox.
    MessageMoved { from: String, to: String, unread: bool },
    /// It is gone.
    MessageDeleted { mailbox: String, unread: bool },
}

/// A message as a command finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Where it is.
    pub(crate) mailbox: String,
    /// Whether nobody has read it.
    pub(crate) unread: bool,
}

impl Message {
    /// What a message is after an event; none: there is none.
    pub(crate) fn after(before: Option<Self>, event: MessageEvent) -> Option<Self> {
        match (before, event) {
            (_, MessageEvent::MessageDelivered { mailbox, .. }) => {
                Some(Self { mailbox, unread: true })
            }
            (Some(message), MessageEvent::MessageRead { .. }) => {
                Some(Self { unread: false, ..message })
            }
            (Some(message), MessageEvent::MessageUnread { .. }) => {
                Some(Self { unread: true, ..message })
            }
            (Some(message), MessageEvent::MessageMoved { to, .. }) => {
                Some(Self { mailbox: to, ..message })
            }
            (_, MessageEvent::MessageDeleted { .. }) | (None, _) => None,
        }
    }
}
