//! What a client may ask for, and what is recorded then. Each handler reads the streams that it
//! decides on, and has its events recorded only if they are still as it read them.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use tidewire_eventstore::{
    DocumentKey, EventType, ExpectedRevision, GlobalPosition, NewEvent, Payload, Read,
    RecordedEvent, StreamName, Target, Timestamp,
};
use tidewire_projections::Projections;
use tidewire_transport::{
    Builder,
    commands::{CommandError, Context, Decision, StreamState},
};
use uuid::Uuid;

use crate::{
    events::{MailboxEvent, Message, MessageEvent},
    projections::{MAILBOXES, Mailbox},
};

/// The longest name of a mailbox, sender or subject, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// The longest body, in bytes.
const BODY_BYTES_MAX: usize = 100 << 10;

/// How long to wait for the projection of mailboxes to come up to date.
const WAIT_MAX: Duration = Duration::from_secs(5);

type Answer<T> = Result<Decision<T>, CommandError>;

/// What a command made: its id.
#[derive(Debug, Serialize)]
struct Made {
    id: String,
}

/// Registers the handlers.
pub(crate) fn register(builder: Builder, projections: &Arc<Projections>) -> Builder {
    let projections = Arc::clone(projections);
    builder
        .command("create-mailbox", create_mailbox)
        .command("rename-mailbox", rename_mailbox)
        .command("delete-mailbox", move |context: Context, input: DeleteMailbox| {
            delete_mailbox(context, input, Arc::clone(&projections))
        })
        .command("deliver", deliver)
        .command("mark", mark)
        .command("move", move_message)
        .command("delete", delete)
}

#[derive(Debug, Deserialize)]
struct CreateMailbox {
    name: String,
}

async fn create_mailbox(_: Context, input: CreateMailbox) -> Answer<Made> {
    let name = text("name", &input.name)?;
    let id = Uuid::now_v7().simple().to_string();
    let stream = stream("mailbox", &id)?;
    let event = event(&MailboxEvent::MailboxCreated { name })?;
    Ok(Decision::answer(Made { id }).append(stream, ExpectedRevision::NoStream, [event]))
}

#[derive(Debug, Deserialize)]
struct RenameMailbox {
    mailbox: String,
    name: String,
}

async fn rename_mailbox(context: Context, input: RenameMailbox) -> Answer<()> {
    let name = text("name", &input.name)?;
    let (stream, state) = mailbox(&context, &input.mailbox).await?;
    let event = event(&MailboxEvent::MailboxRenamed { name })?;
    Ok(Decision::answer(()).append(stream, state.unchanged(), [event]))
}

#[derive(Debug, Deserialize)]
struct DeleteMailbox {
    mailbox: String,
}

/// Deletes a mailbox that is empty. How many messages are in it says the projection, once it has
/// everything that was in the log when the mailbox was looked up.
async fn delete_mailbox(
    context: Context,
    input: DeleteMailbox,
    projections: Arc<Projections>,
) -> Answer<()> {
    let (stream, state) = mailbox(&context, &input.mailbox).await?;
    let total = total(&context, &projections, &input.mailbox).await?;
    if total > 0 {
        let error = CommandError::new("mailbox_not_empty", "there are messages in the mailbox");
        return Err(error.with_details(json!({ "total": total })));
    }
    let event = event(&MailboxEvent::MailboxDeleted {})?;
    Ok(Decision::answer(()).append(stream, state.unchanged(), [event]))
}

async fn total(
    context: &Context,
    projections: &Projections,
    mailbox: &str,
) -> Result<u64, CommandError> {
    let away = |error: &dyn std::fmt::Display| {
        CommandError::new("mailboxes_unavailable", error.to_string()).retryable()
    };
    let mailboxes = projections.get(MAILBOXES).ok_or_else(|| away(&"they are not kept"))?;
    let now = Read::after(Target::All, GlobalPosition::new(u64::MAX), 1);
    let head = context.read(now).await?.head;
    let reached = mailboxes.wait(head, WAIT_MAX).await.map_err(|error| away(&error))?;
    let key = DocumentKey::new(mailbox).map_err(|error| away(&error))?;
    let found = mailboxes.documents().documents(reached.generation, vec![key]);
    let found = found.await.map_err(|error| away(&error))?;
    let mailbox = found.first().map(|document| {
        serde_json::from_slice::<Mailbox>(&document.data).map_err(|error| away(&error))
    });
    Ok(mailbox.transpose()?.map_or(0, |mailbox| mailbox.total))
}

#[derive(Debug, Deserialize)]
struct Deliver {
    mailbox: String,
    from: String,
    subject: String,
    body: String,
}

async fn deliver(context: Context, input: Deliver) -> Answer<Made> {
    mailbox(&context, &input.mailbox).await?;
    let (from, subject) = (text("from", &input.from)?, text("subject", &input.subject)?);
    if input.body.len() > BODY_BYTES_MAX {
        return Err(CommandError::new("body_too_long", "the message is too long"));
    }
    let id = Uuid::now_v7().simple().to_string();
    let received_at = Timestamp::now().as_micros() / 1000;
    let Deliver { mailbox, body, .. } = input;
    let delivered = MessageEvent::MessageDelivered { mailbox, from, subject, body, received_at };
    let stream = stream("message", &id)?;
    Ok(Decision::answer(Made { id }).append(
        stream,
        ExpectedRevision::NoStream,
        [event(&delivered)?],
    ))
}

#[derive(Debug, Deserialize)]
struct Mark {
    message: String,
    read: bool,
}

async fn mark(context: Context, input: Mark) -> Answer<()> {
    let (stream, state, message) = message(&context, &input.message).await?;
    if message.unread != input.read {
        return Ok(Decision::answer(()));
    }
    let Message { mailbox, .. } = message;
    let event = event(&if input.read {
        MessageEvent::MessageRead { mailbox }
    } else {
        MessageEvent::MessageUnread { mailbox }
    })?;
    Ok(Decision::answer(()).append(stream, state.unchanged(), [event]))
}

#[derive(Debug, Deserialize)]
struct Move {
    message: String,
    to: String,
}

async fn move_message(context: Context, input: Move) -> Answer<()> {
    mailbox(&context, &input.to).await?;
    let (stream, state, message) = message(&context, &input.message).await?;
    if message.mailbox == input.to {
        return Ok(Decision::answer(()));
    }
    let Message { mailbox: from, unread } = message;
    let event = event(&MessageEvent::MessageMoved { from, to: input.to, unread })?;
    Ok(Decision::answer(()).append(stream, state.unchanged(), [event]))
}

#[derive(Debug, Deserialize)]
struct Delete {
    message: String,
}

async fn delete(context: Context, input: Delete) -> Answer<()> {
    let (stream, state, message) = message(&context, &input.message).await?;
    let Message { mailbox, unread } = message;
    let event = event(&MessageEvent::MessageDeleted { mailbox, unread })?;
    Ok(Decision::answer(()).append(stream, state.unchanged(), [event]))
}

/// The stream of a mailbox that there is.
async fn mailbox(context: &Context, id: &str) -> Result<(StreamName, StreamState), CommandError> {
    let stream = stream("mailbox", id)?;
    let state = context.stream(&stream).await?;
    let last = state.events.last().map(read).transpose()?;
    match last {
        Some(MailboxEvent::MailboxCreated { .. } | MailboxEvent::MailboxRenamed { .. }) => {
            Ok((stream, state))
        }
        Some(MailboxEvent::MailboxDeleted {}) | None => {
            Err(CommandError::new("no_such_mailbox", "there is no such mailbox"))
        }
    }
}

/// A message that there is, and its stream.
async fn message(
    context: &Context,
    id: &str,
) -> Result<(StreamName, StreamState, Message), CommandError> {
    let stream = stream("message", id)?;
    let state = context.stream(&stream).await?;
    let mut message = None;
    for event in &state.events {
        message = Message::after(message, read(event)?);
    }
    let message =
        message.ok_or_else(|| CommandError::new("no_such_message", "there is no such message"))?;
    Ok((stream, state, message))
}

fn stream(category: &str, id: &str) -> Result<StreamName, CommandError> {
    StreamName::new(&format!("{category}-{id}"))
        .map_err(|error| CommandError::new("bad_id", error.to_string()))
}

fn text(field: &'static str, text: &str) -> Result<String, CommandError> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > TEXT_CHARS_MAX {
        let error = CommandError::new("bad_text", "a text is empty or too long");
        return Err(error.with_details(json!({ "field": field, "max": TEXT_CHARS_MAX })));
    }
    Ok(text.to_owned())
}

/// What an event of our own streams says: an enum's variant is the type, its content the data.
fn read<E: DeserializeOwned>(event: &RecordedEvent) -> Result<E, CommandError> {
    let Payload::Json(data) = &event.payload else {
        return Err(CommandError::new("bad_event", "the event has no data"));
    };
    let bad = |error: serde_json::Error| CommandError::new("bad_event", error.to_string());
    let data: serde_json::Value = serde_json::from_slice(data).map_err(bad)?;
    serde_json::from_value(json!({ event.event_type.as_str(): data })).map_err(bad)
}

/// The other way round.
pub(crate) fn event(event: &impl Serialize) -> Result<NewEvent, CommandError> {
    let bad = |error: String| CommandError::new("bad_event", error);
    let value = serde_json::to_value(event).map_err(|error| bad(error.to_string()))?;
    let variant = value.as_object().and_then(|members| members.iter().next());
    let (name, data) = variant.ok_or_else(|| bad("the event has no type".to_owned()))?;
    let event_type = EventType::new(name).map_err(|error| bad(error.to_string()))?;
    Ok(NewEvent::json(event_type, data.to_string()))
}
