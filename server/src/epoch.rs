//! `tidewire epoch`: the lives of the log.

use anyhow::Result;
use bytes::BytesMut;
use tidewire_eventstore::LogEpoch;
use tidewire_protocol::codec::json::format_time;

use crate::{
    client::runtime,
    database::{DatabaseArgs, Purpose},
};

/// List the log's epochs, or begin a new one after a restore from a backup
///
/// Clients remember positions. After a restore the log may have other events at positions that
/// they have seen; a new epoch tells them so, and they start over instead of missing events.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the epochs, oldest first
    List {
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Begin a new epoch after the present end of the log
    New {
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let (Verb::List { database } | Verb::New { database }) = &args.verb;
    let database = database.database()?;
    runtime()?.block_on(async {
        // A log that begins now has its first epoch: a new one would be a slip of the hand.
        let store = database.open(Purpose::Look).await?;
        let outcome = match args.verb {
            Verb::List { .. } => store.head().await.map(|head| head.epochs.to_vec()),
            Verb::New { .. } => store.begin_epoch().await.map(|epoch| vec![epoch]),
        };
        store.close().await;
        for epoch in outcome? {
            print(&epoch);
        }
        Ok(())
    })
}

fn print(epoch: &LogEpoch) {
    let mut began_at = BytesMut::new();
    format_time(epoch.began_at, &mut began_at);
    let began_at = String::from_utf8_lossy(&began_at);
    println!("{} from position {} since {began_at}", epoch.epoch, epoch.first_position);
}
