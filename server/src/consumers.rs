//! `tidewire consumers`: the durable consumers of a log.

pub(crate) mod place;
pub(crate) mod row;

use anyhow::Result;
use tidewire_eventstore::ConsumerName;

use self::{place::Place, row::ConsumerRow};
use crate::{
    client::{ServerArgs, runtime},
    database::DatabaseArgs,
    exit::{Reason, failure},
};

/// List, show or delete durable consumers
///
/// Goes to a running server (--server), or else straight to the database; a server that runs on
/// the same database notices.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List all consumers by name
    List {
        /// Print JSON, one consumer a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Show one consumer and who holds it
    Show {
        /// The consumer
        #[arg(value_parser = parse_name)]
        name: ConsumerName,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Delete a consumer with its progress and its parked events
    ///
    /// Whoever holds it is told that it was taken away. A subscription under its name begins anew.
    Delete {
        /// The consumer
        #[arg(value_parser = parse_name)]
        name: ConsumerName,
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let (Verb::List { server, database, .. }
    | Verb::Show { server, database, .. }
    | Verb::Delete { server, database, .. }) = &args.verb;
    runtime()?.block_on(async {
        let place = Place::open(server, database).await?;
        let outcome = carry_out(&place, &args.verb).await;
        place.close().await;
        outcome
    })
}

async fn carry_out(place: &Place, verb: &Verb) -> Result<()> {
    match verb {
        Verb::List { json, .. } => {
            let mut after = None;
            loop {
                let page = place.consumers(after).await?;
                for row in &page.rows {
                    println!("{}", if *json { row.json()? } else { row.line() });
                }
                match page.next {
                    Some(next) => after = Some(next),
                    None => return Ok(()),
                }
            }
        }
        Verb::Show { name, json, .. } => {
            let row: ConsumerRow = place.consumer(name).await?;
            println!("{}", if *json { row.json()? } else { row.paragraph() });
            Ok(())
        }
        Verb::Delete { name, .. } => {
            place.delete(name).await?;
            println!("deleted {name}");
            Ok(())
        }
    }
}

/// A consumer's name on the command line.
pub(crate) fn parse_name(text: &str) -> Result<ConsumerName> {
    ConsumerName::recorded(text).map_err(|error| failure(Reason::Usage, error.to_string()))
}
