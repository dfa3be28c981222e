//! `tidewire truncate`: a stream without its older events.

use anyhow::Result;
use tidewire_eventstore::{Removal, Revision, StreamName};

use crate::{
    exit::{Reason, failure},
    removal::{RemovalArgs, Request, events},
};

/// Remove the events of a stream before a revision
///
/// They are gone for everybody, at once and for good. The stream goes on with its next revision.
/// Readers that come back from before them are told to start over.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stream, such as order-42
    stream: String,
    /// The first revision that stays
    #[arg(long, value_name = "REVISION")]
    before: u64,
    #[command(flatten)]
    removal: RemovalArgs,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let Args { stream: name, before, removal } = args;
    let stream =
        StreamName::new(&name).map_err(|error| failure(Reason::Usage, error.to_string()))?;
    let request = Request {
        method: reqwest::Method::DELETE,
        path: &["streams", &name],
        query: Some(format!("before={before}")),
        body: None,
    };
    let before_revision = Revision::new(before);
    let removals = vec![Removal::Truncate { stream, before: before_revision }];
    removal.run(request, removals, |count, bytes| {
        format!("{name}: removed {} before revision {before} ({bytes} bytes)", events(count))
    })
}
