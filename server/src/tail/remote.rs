//! Asks a running server: page by page to the end of the log, or for ever. A connection that is
//! lost is made again, and nothing is missed.

use std::iter;

use anyhow::Result;
use futures_util::StreamExt;
use tidewire_client::{
    Client, ClientConfig, Cursor, Delivery, Direction, FetchError, FetchRequest, Filter, Notice,
    Page, SubscribeOptions, SubscriptionEnded, Target,
};
use tidewire_eventstore::GlobalPosition;

use super::{
    After, Query, after_the_end,
    output::{More, Output},
};
use crate::client::{Remote, refused};

/// The server may cut a page shorter.
const PAGE_EVENTS: usize = 1000;

/// Prints until the end of the log, for ever, or until enough was printed.
pub(super) async fn run(remote: &Remote, query: &Query, output: &mut Output) -> Result<()> {
    let client = remote.connect("tail", ClientConfig::default()).await?;
    let newest = FetchRequest {
        from: Target::All,
        after: None,
        before: None,
        limit: 1,
        direction: Direction::Backwards,
    };
    let head = fetch(&client, newest).await?.head;
    if let After::Position(position) = query.after
        && position > head
    {
        return Err(after_the_end(position, head));
    }
    if query.follow {
        follow(&client, query, output).await?;
    } else {
        print_pages(&client, query, head, output).await?;
    }
    client.close().await;
    Ok(())
}

/// Prints what is in the log up to `head`.
async fn print_pages(
    client: &Client,
    query: &Query,
    head: GlobalPosition,
    output: &mut Output,
) -> Result<()> {
    let after = match query.after {
        After::Start => GlobalPosition::START,
        After::End => head,
        After::Position(position) => position,
    };
    let from = target(query);
    // One stream is read by revisions, of which a position says nothing.
    let mut cursor = match from {
        Target::Stream(_) => None,
        _ => Some(Cursor::Position(after)),
    };
    loop {
        let page = FetchRequest {
            from: from.clone(),
            after: cursor,
            before: None,
            limit: PAGE_EVENTS,
            direction: Direction::Forwards,
        };
        let page = fetch(client, page).await?;
        let wanted = page
            .events
            .iter()
            .filter(|event| event.position > after && event.position <= head)
            .filter(|event| query.matches(event));
        if output.print(wanted)? == More::Enough {
            return Ok(());
        }
        let reached = page.events.last().is_some_and(|last| last.position >= head);
        match page.next {
            Some(next) if !reached => cursor = Some(next),
            _ => return Ok(()),
        }
    }
}

/// Prints what comes.
async fn follow(client: &Client, query: &Query, output: &mut Output) -> Result<()> {
    let after = match query.after {
        After::Start => tidewire_client::After::Start,
        After::End => tidewire_client::After::End,
        After::Position(position) => tidewire_client::After::Position(position),
    };
    let mut options = SubscribeOptions::new(target(query), after);
    options.filter = (!query.types.is_empty()).then(|| Filter::types(&query.types));
    let mut deliveries = client.subscribe(options).await?;
    while let Some(delivery) = deliveries.next().await {
        match delivery.map_err(ended)? {
            Delivery::Event(event) => {
                if output.print(iter::once(&event))? == More::Enough {
                    break;
                }
            }
            Delivery::Notice(Notice::Reset(_)) => {
                eprintln!("the log is another one than before: from its start");
            }
            Delivery::Notice(_) => {}
        }
    }
    Ok(())
}

fn target(query: &Query) -> Target {
    match &query.target {
        tidewire_eventstore::Target::All => Target::All,
        tidewire_eventstore::Target::Category(category) => Target::Category(category.clone()),
        tidewire_eventstore::Target::Stream(stream) => Target::Stream(stream.clone()),
    }
}

async fn fetch(client: &Client, page: FetchRequest) -> Result<Page> {
    client.fetch(page).await.map_err(|error| match &error {
        FetchError::Refused(body) => refused(body),
        _ => error.into(),
    })
}

fn ended(ended: SubscriptionEnded) -> anyhow::Error {
    match &ended {
        SubscriptionEnded::Refused(error) => refused(error),
        _ => ended.into(),
    }
}
