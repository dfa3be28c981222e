//! `tidewire tail`: prints events, and those that come.

mod local;
mod output;
mod remote;

use anyhow::Result;
use tidewire_eventstore::{Category, EventType, GlobalPosition, RecordedEvent, StreamName, Target};

use crate::{
    client::{ServerArgs, runtime},
    database::{DatabaseArgs, Purpose},
    exit::{Reason, failure},
};
use output::Output;

/// Print events as they come
///
/// Follows a running server (--server), or else the database itself. A position that was printed
/// can be given to --after, to go on from there.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this stream
    #[arg(long, value_name = "NAME", group = "target")]
    stream: Option<String>,
    /// Only streams of this category: the part of their names before the first -
    #[arg(long, value_name = "NAME", group = "target")]
    category: Option<String>,
    /// Every stream (the default)
    #[arg(long, group = "target")]
    all: bool,
    /// Only events of these types
    #[arg(long, value_name = "TYPE,…", value_delimiter = ',')]
    types: Vec<String>,
    /// Begin after this position, at the start, or at the end [default: end; start with --no-follow]
    #[arg(long, value_name = "POSITION|start|end", value_parser = parse_after,
          allow_negative_numbers = true)]
    after: Option<After>,
    /// Wait for further events (the default)
    #[arg(long, overrides_with = "no_follow")]
    follow: bool,
    /// End at the end of the log
    #[arg(long)]
    no_follow: bool,
    /// End after so many events
    #[arg(long, value_name = "EVENTS")]
    limit: Option<u64>,
    /// Print JSON, one event a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Where a tail begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Start,
    End,
    Position(GlobalPosition),
}

/// Which events are wanted, and which of them first.
#[derive(Debug, Clone)]
struct Query {
    target: Target,
    /// Empty: every type.
    types: Vec<EventType>,
    after: After,
    follow: bool,
}

impl Query {
    fn matches(&self, event: &RecordedEvent) -> bool {
        !event.is_removed()
            && self.target.includes(&event.stream)
            && (self.types.is_empty() || self.types.contains(&event.event_type))
    }
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let query = query(&args)?;
    let mut output = Output::new(args.json, args.limit);
    let outcome = match args.server.remote()? {
        Some(remote) => runtime()?.block_on(remote::run(&remote, &query, &mut output)),
        None => {
            let database = args.database.database()?;
            runtime()?.block_on(async {
                let store = database.open(Purpose::Look).await?;
                let outcome = local::run(&store, &query, &mut output).await;
                store.close().await;
                outcome
            })
        }
    };
    match outcome {
        // Whoever read us has seen enough.
        Err(error) if output::is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

fn query(args: &Args) -> Result<Query> {
    let usage = |error| failure(Reason::Usage, format!("{error}"));
    let target = match (&args.stream, &args.category) {
        (Some(stream), _) => Target::Stream(StreamName::recorded(stream).map_err(usage)?),
        (None, Some(category)) => Target::Category(Category::recorded(category).map_err(usage)?),
        (None, None) => Target::All,
    };
    let types = args.types.iter().map(|name| EventType::recorded(name).map_err(usage));
    let follow = !args.no_follow;
    let after = args.after.unwrap_or(if follow { After::End } else { After::Start });
    Ok(Query { target, types: types.collect::<Result<_>>()?, after, follow })
}

fn after_the_end(position: GlobalPosition, head: GlobalPosition) -> anyhow::Error {
    let text = format!("position {position} is after the end of the log, which is {head}");
    failure(Reason::Usage, text)
}

fn parse_after(text: &str) -> Result<After, String> {
    match text {
        "start" => Ok(After::Start),
        "end" => Ok(After::End),
        number => number
            .parse()
            .map(|position| After::Position(GlobalPosition::new(position)))
            .map_err(|_| "it must be start, end or a position".to_owned()),
    }
}
