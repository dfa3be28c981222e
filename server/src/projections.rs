//! `tidewire projections`: the read models of a log.

mod place;
mod query;
mod rebuild;
mod row;

use anyhow::Result;
use tidewire_eventstore::{GlobalPosition, ProjectionName};
use tidewire_projections::documents::{PAGE_MAX, Wish};

use self::place::Place;
use crate::{
    client::{ServerArgs, runtime},
    database::DatabaseArgs,
    exit::{Reason, failure},
};

/// List, show, rebuild, query or forget projections
///
/// Goes to a running server (--server), or else straight to the database, where the server that
/// runs on it finds what it is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List all projections by name
    List {
        /// Print JSON, one projection a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: At,
    },
    /// Show one projection: how far it is, who writes it, what is being built
    Show {
        /// The projection
        #[arg(value_parser = parse_name)]
        name: ProjectionName,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: At,
    },
    /// Fill the projection again from the beginning of the log, beside the present documents
    ///
    /// These are read until the new ones have caught up, and are then replaced at once.
    Rebuild {
        /// The projection
        #[arg(value_parser = parse_name)]
        name: ProjectionName,
        /// Show progress until the new documents have taken the place of the old
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        at: At,
    },
    /// Give up a rebuild
    Cancel(Named),
    /// Try the event again at which the projection stopped
    Resume(Named),
    /// Park the event at which the projection stopped, and go on after it
    Skip(Named),
    /// List the events that the projection could not take, in order
    Parked {
        /// The projection
        #[arg(value_parser = parse_name)]
        name: ProjectionName,
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
        at: At,
    },
    Query(query::Args),
    /// Delete a projection that no server has in its settings any more, with all its documents
    ///
    /// Works on the database alone. Not while a server owns the projection.
    Forget(Named),
}

/// A projection, and where to ask.
#[derive(Debug, clap::Args)]
struct Named {
    /// The projection
    #[arg(value_parser = parse_name)]
    name: ProjectionName,
    #[command(flatten)]
    at: At,
}

/// Where to ask.
#[derive(Debug, clap::Args)]
struct At {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let at = match &args.verb {
        Verb::List { at, .. }
        | Verb::Show { at, .. }
        | Verb::Rebuild { at, .. }
        | Verb::Parked { at, .. }
        | Verb::Cancel(Named { at, .. })
        | Verb::Resume(Named { at, .. })
        | Verb::Skip(Named { at, .. })
        | Verb::Forget(Named { at, .. })
        | Verb::Query(query::Args { at, .. }) => at,
    };
    runtime()?.block_on(async {
        let place = Place::open(&at.server, &at.database).await?;
        let outcome = carry_out(&place, &args.verb).await;
        place.close().await;
        outcome
    })
}

async fn carry_out(place: &Place, verb: &Verb) -> Result<()> {
    match verb {
        Verb::List { json, .. } => {
            for row in place.projections().await? {
                println!("{}", if *json { row.json()? } else { row.line() });
            }
            Ok(())
        }
        Verb::Show { name, json, .. } => {
            let row = place.projection(name).await?;
            println!("{}", if *json { row.json()? } else { row.paragraph() });
            Ok(())
        }
        Verb::Rebuild { name, wait: true, .. } => rebuild::wait(place, name).await,
        Verb::Rebuild { name, .. } => ask(place, name, Wish::Rebuild).await,
        Verb::Cancel(Named { name, .. }) => ask(place, name, Wish::Cancel).await,
        Verb::Resume(Named { name, .. }) => ask(place, name, Wish::Resume).await,
        Verb::Skip(Named { name, .. }) => ask(place, name, Wish::Skip).await,
        Verb::Parked { name, after, limit, json, .. } => {
            list_parked(place, name, GlobalPosition::new(*after), *limit, *json).await
        }
        Verb::Query(query) => query::carry_out(place, query).await,
        Verb::Forget(Named { name, .. }) => {
            place.forget(name).await?;
            println!("forgot {name}");
            Ok(())
        }
    }
}

async fn ask(place: &Place, name: &ProjectionName, wish: Wish) -> Result<()> {
    place.wish(name, wish).await?;
    println!("asked {name} to {}", row::word_of(wish));
    Ok(())
}

async fn list_parked(
    place: &Place,
    name: &ProjectionName,
    mut after: GlobalPosition,
    limit: Option<usize>,
    json: bool,
) -> Result<()> {
    let mut left = limit.unwrap_or(usize::MAX);
    while left > 0 {
        let page = place.parked(name, after, left.min(PAGE_MAX)).await?;
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

/// A projection's name on the command line.
fn parse_name(text: &str) -> Result<ProjectionName> {
    ProjectionName::recorded(text).map_err(|error| failure(Reason::Usage, error.to_string()))
}
