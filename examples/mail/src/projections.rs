//! The documents that the page shows: mailboxes with their counts, and messages.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidewire_projections::{
    Projection,
    typed::{self, Change, DefinitionError, Event},
};

use crate::events::MessageEvent;

/// The name of the projection of mailboxes.
pub(crate) const MAILBOXES: &str = "mailboxes";

/// The name of the projection of messages.
pub(crate) const MESSAGES: &str = "messages";

/// What is shown of a body in a list, in characters.
const PREVIEW_CHARS: usize = 120;

/// A mailbox, by its id.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mailbox {
    name: String,
    /// How many messages are in it.
    pub(crate) total: u64,
    /// How many of them nobody has read.
    unread: u64,
}

/// A message as a list shows it, by its id.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Message {
    mailbox: String,
    from: String,
    subject: String,
    preview: String,
    received_at: i64,
    read: bool,
}

/// What a mailbox's document is made of: what happens to it, and to messages.
#[derive(Debug, Deserialize)]
enum Mail {
    MailboxCreated { name: String },
    MailboxRenamed { name: String },
    MailboxDeleted {},
    MessageDelivered { mailbox: String },
    MessageRead { mailbox: String },
    MessageUnread { mailbox: String },
    MessageMoved { from: String, to: String, unread: bool },
    MessageDeleted { mailbox: String, unread: bool },
}

/// Both projections.
///
/// # Errors
///
/// Where a definition is wrong, which a test would have found.
pub(crate) fn all() -> Result<[Arc<dyn Projection>; 2], DefinitionError> {
    Ok([Arc::new(mailboxes()?), Arc::new(messages()?)])
}

fn mailboxes() -> Result<impl Projection, DefinitionError> {
    typed::projection(MAILBOXES, 1).by_keys(
        |event: &Event<'_, Mail>| match &event.data {
            Mail::MailboxCreated { .. } | Mail::MailboxRenamed { .. } | Mail::MailboxDeleted {} => {
                vec![event.stream_id().to_owned()]
            }
            Mail::MessageDelivered { mailbox }
            | Mail::MessageRead { mailbox }
            | Mail::MessageUnread { mailbox }
            | Mail::MessageDeleted { mailbox, .. } => vec![mailbox.clone()],
            Mail::MessageMoved { from, to, .. } => vec![from.clone(), to.clone()],
        },
        |key, mailbox: Option<Mailbox>, event| {
            if let Mail::MailboxCreated { name } = &event.data {
                return Change::Put(Mailbox { name: name.clone(), ..Mailbox::default() });
            }
            let Some(mut mailbox) = mailbox else { return Change::Keep };
            let (total, unread) = match &event.data {
                Mail::MailboxCreated { .. } => (0, 0),
                Mail::MailboxRenamed { name } => {
                    mailbox.name.clone_from(name);
                    (0, 0)
                }
                Mail::MailboxDeleted {} => return Change::Delete,
                Mail::MessageDelivered { .. } => (1, 1),
                Mail::MessageRead { .. } => (0, -1),
                Mail::MessageUnread { .. } => (0, 1),
                Mail::MessageDeleted { unread, .. } => (-1, -i64::from(*unread)),
                Mail::MessageMoved { from, to, unread } => {
                    let came = i64::from(key.as_str() == to) - i64::from(key.as_str() == from);
                    (came, came * i64::from(*unread))
                }
            };
            mailbox.total = mailbox.total.saturating_add_signed(total);
            mailbox.unread = mailbox.unread.saturating_add_signed(unread);
            Change::Put(mailbox)
        },
    )
}

fn messages() -> Result<impl Projection, DefinitionError> {
    typed::projection(MESSAGES, 1).category("message").index(["mailbox", "received_at"]).by_stream(
        |message: Option<Message>, event: &Event<'_, MessageEvent>| match &event.data {
            MessageEvent::MessageDelivered { mailbox, from, subject, body, received_at } => {
                Some(Message {
                    mailbox: mailbox.clone(),
                    from: from.clone(),
                    subject: subject.clone(),
                    preview: preview(body),
                    received_at: *received_at,
                    read: false,
                })
            }
            MessageEvent::MessageRead { .. } => {
                message.map(|message| Message { read: true, ..message })
            }
            MessageEvent::MessageUnread { .. } => {
                message.map(|message| Message { read: false, ..message })
            }
            MessageEvent::MessageMoved { to, .. } => {
                message.map(|message| Message { mailbox: to.clone(), ..message })
            }
            MessageEvent::MessageDeleted { .. } => None,
        },
    )
}

fn preview(body: &str) -> String {
    let words = body.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(PREVIEW_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidewire_projections::kit::{Given, TestEvent, event};

    use super::*;

    fn mail() -> Vec<TestEvent> {
        let delivered = |mailbox: &str, subject: &str, received_at: i64| {
            json!({
                "mailbox": mailbox, "from": "Ada", "subject": subject,
                "body": "Dear\n  all, ", "received_at": received_at
            })
        };
        vec![
            event("mailbox-in", "MailboxCreated", json!({"name": "Inbox"})),
            event("mailbox-old", "MailboxCreated", json!({"name": "Old"})),
            event("message-1", "MessageDelivered", delivered("in", "One", 1)),
            event("message-2", "MessageDelivered", delivered("in", "Two", 2)),
            event("message-1", "MessageRead", json!({"mailbox": "in"})),
            event("mailbox-old", "MailboxRenamed", json!({"name": "Archive"})),
        ]
    }

    fn counts(name: &str, total: u64, unread: u64) -> Mailbox {
        Mailbox { name: name.to_owned(), total, unread }
    }

    #[test]
    fn mailboxes_count_what_is_in_them() {
        let mailboxes = mailboxes().expect("the definition is right");
        let given = || Given::events(&mailboxes, mail());
        given().then([("in", counts("Inbox", 2, 1)), ("old", counts("Archive", 0, 0))]);
        let moved = |id: &str, unread: bool| {
            let data = json!({"from": "in", "to": "old", "unread": unread});
            event(&format!("message-{id}"), "MessageMoved", data)
        };
        given()
            .when(moved("1", false))
            .when(moved("2", true))
            .then([("in", counts("Inbox", 0, 0)), ("old", counts("Archive", 2, 1))]);
        given()
            .when(event("message-2", "MessageDeleted", json!({"mailbox": "in", "unread": true})))
            .when(event("message-1", "MessageUnread", json!({"mailbox": "in"})))
            .then([("in", counts("Inbox", 1, 1)), ("old", counts("Archive", 0, 0))]);
        given()
            .when(event("mailbox-old", "MailboxDeleted", json!({})))
            .when(moved("2", true))
            .then([("in", counts("Inbox", 1, 0))]);
    }

    #[test]
    fn messages_are_what_a_list_shows() {
        let messages = messages().expect("the definition is right");
        let message = |mailbox: &str, subject: &str, received_at: i64, read: bool| {
            json!({
                "mailbox": mailbox, "from": "Ada", "subject": subject, "preview": "Dear all,",
                "received_at": received_at, "read": read
            })
        };
        let given = || Given::events(&messages, mail());
        given().then([("1", message("in", "One", 1, true)), ("2", message("in", "Two", 2, false))]);
        given()
            .when(event("message-1", "MessageDeleted", json!({"mailbox": "in", "unread": false})))
            .when(event(
                "message-2",
                "MessageMoved",
                json!({"from": "in", "to": "old", "unread": true}),
            ))
            .then([("2", message("old", "Two", 2, false))]);
    }
}
