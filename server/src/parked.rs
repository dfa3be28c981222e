//! `tidewire parked`: the events that a consumer parked.

use anyhow::Result;
use tidewire_eventstore::{ConsumerName, GlobalPosition, PARKED_PAGE_MAX, Positions};

use crate::{
    client::{ServerArgs, runtime},
    consumers::{
        parse_name,
        place::{Change, Place},
    },
    database::DatabaseArgs,
};

/// List, replay or drop the events that a consumer parked
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
    /// List what is parked, in order
    List {
        /// The consumer
        #[arg(value_parser = parse_name)]
        name: ConsumerName,
        /// Begin after this position
        #[arg(long, value_name = "POSITION", default_value_t = 0)]
        after: u64,
        /// End after so many events
        #[arg(long, value_name = "EVENTS")]
        limit: Option<usize>,
        /// Print JSON, one event a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Have parked events delivered again
    ///
    /// They stay parked until they are settled.
    Replay(Choice),
    /// Forget parked events for good
    Drop(Choice),
}

/// Some parked events of a consumer.
#[derive(Debug, clap::Args)]
struct Choice {
    /// The consumer
    #[arg(value_parser = parse_name)]
    name: ConsumerName,
    /// Their positions, if not --all
    #[arg(value_name = "POSITION", required_unless_present = "all", conflicts_with = "all")]
    positions: Vec<u64>,
    /// All that it parked
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let (Verb::List { server, database, .. }
    | Verb::Replay(Choice { server, database, .. })
    | Verb::Drop(Choice { server, database, .. })) = &args.verb;
    runtime()?.block_on(async {
        let place = Place::open(server, database).await?;
        let outcome = carry_out(&place, &args.verb).await;
        place.close().await;
        outcome
    })
}

async fn carry_out(place: &Place, verb: &Verb) -> Result<()> {
    match verb {
        Verb::List { name, after, limit, json, .. } => {
            list(place, name, GlobalPosition::new(*after), *limit, *json).await
        }
        Verb::Replay(choice) => {
            let count = place.change(&choice.name, choice.positions(), Change::Replay).await?;
            println!("replaying {count}");
            Ok(())
        }
        Verb::Drop(choice) => {
            let count = place.change(&choice.name, choice.positions(), Change::Drop).await?;
            println!("dropped {count}");
            Ok(())
        }
    }
}

async fn list(
    place: &Place,
    name: &ConsumerName,
    mut after: GlobalPosition,
    limit: Option<usize>,
    json: bool,
) -> Result<()> {
    let mut left = limit.unwrap_or(usize::MAX);
    while left > 0 {
        let page = place.parked(name, after, left.min(PARKED_PAGE_MAX)).await?;
        for row in &page.rows {
            println!("{}", if json { row.json()? } else { row.line() });
        }
        left = left.saturating_sub(page.rows.len());
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok(())
}

impl Choice {
    fn positions(&self) -> Positions {
        if self.all {
            Positions::All
        } else {
            Positions::Listed(self.positions.iter().copied().map(GlobalPosition::new).collect())
        }
    }
}
