//! Follows the database itself: page by page to the end of the log, then what comes.

use std::sync::Arc;

use anyhow::Result;
use tidewire_eventstore::{
    Direction, EventStore, GlobalPosition, LogTail, Read, ReadStart, TailConfig,
};

use super::{
    After, Query, after_the_end,
    output::{More, Output},
};

const PAGE_EVENTS: usize = 1000;

/// Prints until the end, for ever, or until enough was printed.
pub(super) async fn run(
    store: &Arc<dyn EventStore>,
    query: &Query,
    output: &mut Output,
) -> Result<()> {
    let head = store.head().await?.position;
    let mut after = match query.after {
        After::Start => GlobalPosition::START,
        After::End => head,
        After::Position(position) if position > head => {
            return Err(after_the_end(position, head));
        }
        After::Position(position) => position,
    };
    loop {
        let page = store
            .read(Read {
                target: query.target.clone(),
                types: query.types.clone(),
                direction: Direction::Forwards,
                from: ReadStart::Position(after),
                until: None,
                limit: PAGE_EVENTS,
            })
            .await?;
        if output.print(page.events.iter().filter(|event| !event.is_removed()))? == More::Enough {
            return Ok(());
        }
        match page.events.last() {
            Some(last) if page.more => after = last.position,
            _ => {
                after = after.max(page.head);
                break;
            }
        }
    }
    if !query.follow {
        return Ok(());
    }
    let mut tail = LogTail::new(Arc::clone(store), after, TailConfig::default());
    loop {
        let batch = tail.next().await;
        let wanted = batch.events.iter().filter(|event| query.matches(event));
        if output.print(wanted)? == More::Enough {
            return Ok(());
        }
    }
}
