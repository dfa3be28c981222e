//! What the verbs that remove have in common: they ask a running server, or do it in the database,
//! and say what it came to.

use std::time::Duration;

use anyhow::{Context, Result};
use tidewire_eventstore::{Removal, Removed};

use crate::{
    client::{ServerArgs, runtime},
    database::{DatabaseArgs, Purpose},
};

/// How long a server may take: a large stream is removed in many small steps.
const REMOVED_WITHIN: Duration = Duration::from_secs(60 * 60);

/// Where to remove, and how to say what was.
#[derive(Debug, clap::Args)]
pub(crate) struct RemovalArgs {
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// A removal, as a server is asked for it.
pub(crate) struct Request<'a> {
    pub(crate) method: reqwest::Method,
    pub(crate) path: &'a [&'a str],
    pub(crate) query: Option<String>,
    pub(crate) body: Option<String>,
}

impl RemovalArgs {
    /// Has it done; `done` makes a line of the events and bytes that went.
    pub(crate) fn run(
        &self,
        request: Request<'_>,
        removals: Vec<Removal>,
        done: impl FnOnce(u64, u64) -> String,
    ) -> Result<()> {
        let (events, bytes) = match self.server.remote()? {
            Some(remote) => {
                let Request { method, path, query, body } = request;
                let answer = remote.ask(method, path, query.as_deref(), body, REMOVED_WITHIN);
                let answer = runtime()?.block_on(answer)?;
                let events = answer["removed"].as_u64().or(answer["erased"].as_u64());
                let events = events.context("the server's answer does not say what was removed")?;
                (events, answer["bytes"].as_u64().unwrap_or_default())
            }
            None => self.directly(removals)?,
        };
        if self.json {
            println!("{}", serde_json::json!({ "events": events, "bytes": bytes }));
        } else {
            println!("{}", done(events, bytes));
        }
        Ok(())
    }

    fn directly(&self, removals: Vec<Removal>) -> Result<(u64, u64)> {
        let database = self.database.database()?;
        runtime()?.block_on(async {
            let store = database.open(Purpose::Look).await?;
            let mut all = (0, 0);
            let mut outcome = Ok(Removed::default());
            for removal in removals {
                outcome = store.remove(removal).await;
                match outcome {
                    Ok(removed) => all = (all.0 + removed.events, all.1 + removed.bytes),
                    Err(_) => break,
                }
            }
            store.close().await;
            outcome?;
            Ok(all)
        })
    }
}

/// `1 event`, `2 events`.
pub(crate) fn events(count: u64) -> String {
    if count == 1 { "1 event".to_owned() } else { format!("{count} events") }
}
