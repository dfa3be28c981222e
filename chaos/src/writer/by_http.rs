//! Writes over HTTP. An append that is not answered is sent again, with the same ids.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::Desk;
use crate::{
    content::{Expected, New},
    http::{self, Told},
    ledger::Outcome,
    reader::Order,
};

/// How long one request may take. A server waits 5 s for its database.
const ANSWER: Duration = Duration::from_secs(8);
/// How long an append is sent again before its writer gives up.
const GIVE_UP: Duration = Duration::from_secs(40);

/// Appends to streams of everybody, demanding nothing of them.
pub(super) async fn write(mut desk: Desk) {
    loop {
        desk.may_begin().await;
        let (stream, events) = desk.next();
        append(&mut desk, &stream, Expected::Any, &events).await;
        let pause = desk.random.millis(10..80);
        sleep(pause).await;
    }
}

/// Appends to one stream, demanding the revision that a rival was told last.
pub(super) async fn rival(mut desk: Desk) {
    let stream = "order-rivals";
    loop {
        desk.may_begin().await;
        let events = desk.events();
        // 0 means that the stream has no events.
        let next = desk.rivalled.load(Relaxed);
        let expected = next.checked_sub(1).map_or(Expected::NoStream, Expected::Revision);
        match append(&mut desk, stream, expected, &events).await {
            Outcome::Recorded { revision, .. } => {
                desk.rivalled.fetch_max(revision + 1, Relaxed);
            }
            Outcome::Refused { code } if code == "wrong_expected_revision" => {
                // It may lie at an append whose answer was lost: looks, so as not to be stuck.
                let path = format!("/streams/{stream}?direction=backwards&limit=1");
                let page = http::request(desk.address, ANSWER, "GET", &path, None).await;
                let revision = page.ok().and_then(|page| {
                    let page: serde_json::Value = serde_json::from_str(&page.body).ok()?;
                    page["events"][0]["revision"].as_u64()
                });
                if let Some(revision) = revision {
                    desk.rivalled.fetch_max(revision + 1, Relaxed);
                }
            }
            _ => {}
        }
        let pause = desk.random.millis(20..120);
        sleep(pause).await;
    }
}

/// Appends, through lost answers, until something is known, or too long.
async fn append(desk: &mut Desk, stream: &str, expected: Expected, events: &[New]) -> Outcome {
    let key = desk.ledger.begin(&desk.name, stream, events);
    let began_at = Instant::now();
    // An earlier request that got no answer may still take effect, whatever a later one is told.
    let mut in_doubt = false;
    let outcome = loop {
        // A crash of the writer: it forgets what it was about to ask.
        if matches!(desk.orders.try_recv(), Ok(Order::Crash)) {
            desk.ledger.counts.client_crashes.fetch_add(1, Relaxed);
            break if in_doubt { Outcome::Unknown } else { refused("never asked") };
        }
        match http::append(desk.address, ANSWER, stream, expected, events).await {
            Told::Recorded { position, revision } => {
                break Outcome::Recorded { position, revision };
            }
            // It demands something that no earlier request can have met after that.
            Told::Refused { code } if !in_doubt || code == "wrong_expected_revision" => {
                break Outcome::Refused { code };
            }
            Told::Refused { .. } => break Outcome::Unknown,
            // Sometimes it is taken at its word, sometimes asked again.
            Told::NotNow { code } if !in_doubt && desk.random.once_in(2) => {
                break Outcome::Refused { code };
            }
            Told::NotNow { .. } => {}
            Told::Nothing => in_doubt = true,
        }
        if began_at.elapsed() > GIVE_UP {
            break if in_doubt { Outcome::Unknown } else { refused("given up") };
        }
        desk.ledger.counts.retries.fetch_add(1, Relaxed);
        let pause = desk.random.millis(20..400);
        sleep(pause).await;
    };
    desk.ledger.settle(key, outcome.clone());
    outcome
}

fn refused(code: &str) -> Outcome {
    Outcome::Refused { code: code.to_owned() }
}
