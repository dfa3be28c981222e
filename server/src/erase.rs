//! `tidewire erase`: an event without what it carried.

use anyhow::Result;
use tidewire_eventstore::{EventRef, GlobalPosition, Removal};

use crate::removal::{RemovalArgs, Request};

/// Erase the data and metadata of one event
///
/// The event stays, with its type and its place. An event of type $erased is appended to its stream
/// at the same time, which tells everybody who has a copy to drop it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The event's position in the log
    position: u64,
    #[command(flatten)]
    removal: RemovalArgs,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let Args { position, removal } = args;
    let request = Request {
        method: reqwest::Method::DELETE,
        path: &["events", &position.to_string()],
        query: None,
        body: None,
    };
    let event = EventRef::Position(GlobalPosition::new(position));
    removal.run(request, vec![Removal::Erase(event)], |count, bytes| match count {
        0 => format!("position {position}: there is nothing to erase any more"),
        _ => format!("position {position}: erased {bytes} bytes"),
    })
}
