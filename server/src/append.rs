//! `tidewire append`: one event into one stream.

use std::io::Read;

use anyhow::{Context, Result};
use serde_json::{Map, Value, value::RawValue};
use tidewire_eventstore::{
    Append, EventId, EventType, ExpectedRevision, NewEvent, Payload, Revision, StreamName,
};
use uuid::Uuid;

use crate::{
    client::{Remote, ServerArgs, runtime},
    database::{DatabaseArgs, Purpose},
    exit::{Reason, failure},
};

/// Append an event to a stream
///
/// Goes to a running server (--server), or else straight into the database; a server that runs on
/// the same database notices.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stream, such as order-42
    stream: String,
    /// The event's type, such as OrderPaid
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// The event's data as JSON; - reads it from standard input
    #[arg(default_value = "{}")]
    data: String,
    /// Metadata as JSON
    #[arg(long, value_name = "JSON")]
    meta: Option<String>,
    /// The event's own id; with it the append takes effect once, however often it is tried
    #[arg(long, value_name = "UUID")]
    id: Option<Uuid>,
    /// What the stream has to be at: any, no_stream, exists, or the revision of its last event
    #[arg(long, default_value = "any", value_parser = parse_expected)]
    expected: ExpectedRevision,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let data = read_data(&args.data)?;
    let data = json(&data, "the data")?;
    let meta = args.meta.as_deref().map(|meta| json(meta, "--meta")).transpose()?;
    let name = |error| failure(Reason::Usage, format!("{error}"));
    let stream = StreamName::new(&args.stream).map_err(name)?;
    let event_type = EventType::new(&args.event_type).map_err(name)?;
    let (revision, position) = match args.server.remote()? {
        Some(remote) => over_http(&args, &remote, &data, meta.as_deref())?,
        None => directly(&args, stream, event_type, &data, meta.as_deref())?,
    };
    if args.json {
        println!(
            "{}",
            serde_json::json!({
                "stream": args.stream, "revision": revision, "position": position,
            })
        );
    } else {
        println!("{} revision {revision} position {position}", args.stream);
    }
    Ok(())
}

fn directly(
    args: &Args,
    stream: StreamName,
    event_type: EventType,
    data: &RawValue,
    meta: Option<&RawValue>,
) -> Result<(u64, u64)> {
    let append = Append {
        stream,
        expected: args.expected,
        events: vec![NewEvent {
            id: args.id.map(EventId::from),
            event_type,
            payload: Payload::Json(data.get().to_owned().into()),
            meta: meta.map(|meta| meta.get().to_owned().into()),
        }],
    };
    let database = args.database.database()?;
    runtime()?.block_on(async {
        let store = database.open(Purpose::Visit).await?;
        let outcome = match store.append(append) {
            Ok(pending) => pending.await,
            Err(error) => Err(error),
        };
        store.close().await;
        let appended = outcome?;
        Ok((appended.revision.get(), appended.position.get()))
    })
}

fn over_http(
    args: &Args,
    remote: &Remote,
    data: &RawValue,
    meta: Option<&RawValue>,
) -> Result<(u64, u64)> {
    let mut event: Map<String, Value> = Map::new();
    event.insert("type".to_owned(), args.event_type.clone().into());
    if let Some(id) = args.id {
        event.insert("id".to_owned(), id.to_string().into());
    }
    let expected = match args.expected {
        ExpectedRevision::Exact(revision) => Value::from(revision.get()),
        named => Value::from(named.to_string()),
    };
    // Data and metadata go as they were given, byte for byte.
    let head = serde_json::to_string(&event).context("text always serialises")?;
    let head = head.strip_suffix('}').context("an object ends in a brace")?;
    let meta = meta.map(|meta| format!(",\"meta\":{meta}")).unwrap_or_default();
    let body = format!("{{\"expected\":{expected},\"events\":[{head},\"data\":{data}{meta}}}]}}");

    let answer = runtime()?.block_on(remote.post(&["streams", &args.stream], body))?;
    let number = |field: &str| {
        answer[field].as_u64().with_context(|| format!("the server's answer has no {field}"))
    };
    Ok((number("revision")?, number("position")?))
}

fn read_data(data: &str) -> Result<String> {
    if data != "-" {
        return Ok(data.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(text)
}

fn json(text: &str, what: &str) -> Result<Box<RawValue>> {
    serde_json::from_str(text).map_err(|error| {
        failure(
            Reason::Usage,
            format!("{what} is not JSON ({error}); it should look like '{{\"total\": 12}}'"),
        )
    })
}

fn parse_expected(text: &str) -> Result<ExpectedRevision, String> {
    match text {
        "any" => Ok(ExpectedRevision::Any),
        "no_stream" => Ok(ExpectedRevision::NoStream),
        "exists" => Ok(ExpectedRevision::Exists),
        number => number
            .parse()
            .map(|revision| ExpectedRevision::Exact(Revision::new(revision)))
            .map_err(|_| "it must be any, no_stream, exists or a revision".to_owned()),
    }
}
