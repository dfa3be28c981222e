//! What a fresh log is filled with: three mailboxes and a few hundred messages of the last weeks,
//! the same ones each time.

use std::error::Error;

use tidewire_eventstore::{Append, EventStore, ExpectedRevision, NewEvent, StreamName, Timestamp};

use crate::{
    commands,
    events::{MailboxEvent, MessageEvent},
};

/// Mailboxes by id: name, messages, and of how many messages one is unread.
const MAILBOXES: [(&str, &str, usize, usize); 3] = [
    ("inbox", "Inbox", 180, 6),
    ("harbour", "Harbour office", 90, 15),
    ("archive", "Archive", 60, 61),
];

const SENDERS: [&str; 10] = [
    "Ada Lindqvist",
    "Tomás Ferreira",
    "Mei Tanaka",
    "Harbour office",
    "Jonas Weber",
    "Priya Raman",
    "Noor Haddad",
    "Lotte de Vries",
    "Samuel Okafor",
    "Tide tables",
];

const SUBJECTS: [&str; 12] = [
    "Berth 4 from Thursday",
    "The new tide tables are out",
    "Lunch on the pier?",
    "Invoice for the mooring lines",
    "Minutes of Monday's meeting",
    "Fog warning until noon",
    "Your parcel is at the gate",
    "Photographs from the regatta",
    "Lost: one blue rowing boat",
    "Crane inspection moved",
    "Draft of the autumn schedule",
    "Thank you!",
];

const SENTENCES: [&str; 12] = [
    "The forecast says north-west five, so we had better be early.",
    "Could you have a look before the end of the week?",
    "I have put the list on the board next to the door.",
    "Nothing is urgent, but it would be good to know by Friday.",
    "The tide turns at a quarter past seven.",
    "They will bring their own lines and fenders this time.",
    "Please let the harbour master know if anything changes.",
    "We counted twice and came to the same number.",
    "Somebody left the lamp on again.",
    "There is coffee in the shed, as always.",
    "The ferry leaves ten minutes later on Sundays.",
    "It was good to see everybody again.",
];

/// The time from one message to the one before it, about.
const STEP_MS: i64 = 97 * 60 * 1000;

/// Fills `log`, if there is nothing in it.
///
/// # Errors
///
/// Where the log cannot be read or written.
pub(crate) async fn fill(log: &dyn EventStore) -> Result<(), Box<dyn Error + Send + Sync>> {
    if log.head().await?.position.get() > 0 {
        return Ok(());
    }
    let mut pending = Vec::new();
    let mut append =
        |stream: String, events: Vec<NewEvent>| -> Result<(), Box<dyn Error + Send + Sync>> {
            let stream = StreamName::new(&stream)?;
            pending.push(log.append(Append {
                stream,
                expected: ExpectedRevision::NoStream,
                events,
            })?);
            Ok(())
        };
    let now = Timestamp::now().as_micros() / 1000;
    let mut number = 0;
    for (id, name, messages, unread_of) in MAILBOXES {
        let created = MailboxEvent::MailboxCreated { name: name.to_owned() };
        append(format!("mailbox-{id}"), vec![commands::event(&created)?])?;
        for index in (0..messages).rev() {
            number += 1;
            let received_at = now - (index as i64 + 1) * STEP_MS - (number as i64 * 7919) % STEP_MS;
            let mut events = vec![commands::event(&delivered(id, number, received_at))?];
            if index % unread_of != 0 {
                let read = MessageEvent::MessageRead { mailbox: id.to_owned() };
                events.push(commands::event(&read)?);
            }
            append(format!("message-sample-{number:03}"), events)?;
        }
    }
    for appended in pending {
        appended.await?;
    }
    Ok(())
}

fn delivered(mailbox: &str, number: usize, received_at: i64) -> MessageEvent {
    let pick =
        |texts: &[&'static str], salt: usize| texts[(number * salt + number / 7) % texts.len()];
    let from = pick(&SENDERS, 3);
    let body = [
        format!("Hello,\n\n{} {}", pick(&SENTENCES, 5), pick(&SENTENCES, 7)),
        format!("{} {}", pick(&SENTENCES, 11), pick(&SENTENCES, 1)),
        format!("Best wishes\n{from}"),
    ];
    MessageEvent::MessageDelivered {
        mailbox: mailbox.to_owned(),
        from: from.to_owned(),
        subject: pick(&SUBJECTS, 5).to_owned(),
        body: body.join("\n\n"),
        received_at,
    }
}
