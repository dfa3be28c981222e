//! `tidewire delete`: a stream without events.

use anyhow::Result;
use tidewire_eventstore::{Removal, StreamName};

use crate::{
    exit::{Reason, failure},
    removal::{RemovalArgs, Request, events},
};

/// Remove every event of a stream
///
/// They are gone for everybody, at once and for good. The stream then counts as one without events:
/// an append that expects no_stream succeeds, and goes on with the next revision.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stream, such as order-42
    stream: String,
    #[command(flatten)]
    removal: RemovalArgs,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let Args { stream: name, removal } = args;
    let stream =
        StreamName::new(&name).map_err(|error| failure(Reason::Usage, error.to_string()))?;
    let request = Request {
        method: reqwest::Method::DELETE,
        path: &["streams", &name],
        query: None,
        body: None,
    };
    removal.run(request, vec![Removal::Delete { stream }], |count, bytes| {
        format!("{name}: removed {} ({bytes} bytes)", events(count))
    })
}
