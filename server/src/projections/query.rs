//! `tidewire projections query`: documents, page by page.

use std::{num::NonZeroU32, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use tidewire_eventstore::{GlobalPosition, ProjectionName};
use tidewire_projections::{
    documents::{PAGE_MAX, StoredDocument},
    query,
};
use tidewire_protocol::query::{Query, WrittenQuery};
use tokio::time::{Instant, sleep};

use super::{
    At, parse_name,
    place::{Log, Place},
};
use crate::{
    client::{ANSWER_WITHIN, Remote},
    exit::{Reason, failure, reason_of_code},
};

/// Between two looks at how far a projection is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Print documents, one a line: the key, then the document
///
/// Straight on the database this needs the settings that have the projection (--config).
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The projection
    #[arg(value_parser = parse_name)]
    name: ProjectionName,
    /// Only documents that meet this condition, such as {"eq": ["state", "open"]}
    #[arg(long = "where", value_name = "JSON")]
    condition: Option<String>,
    /// Only the document of this key
    #[arg(long, conflicts_with_all = ["order", "descending", "limit"])]
    key: Option<String>,
    /// In the order of this field, which has to have an index; without it, by key
    #[arg(long, value_name = "FIELD")]
    order: Option<String>,
    /// Largest first
    #[arg(long)]
    descending: bool,
    /// End after so many documents
    #[arg(long, value_name = "DOCUMENTS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Wait until the projection has reached this position, 30 s at most
    #[arg(long, value_name = "POSITION")]
    wait: Option<u64>,
    /// Print JSON, one {"key", "document"} a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) at: At,
}

/// A page of documents, with the fields that it has over HTTP.
#[derive(Deserialize)]
struct Page {
    documents: Vec<Row>,
    next: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    key: String,
    document: Box<RawValue>,
}

/// The longest that a server waits for a projection.
const WAIT: Duration = Duration::from_secs(30);

/// Prints the documents.
pub(super) async fn carry_out(place: &Place, args: &Args) -> Result<()> {
    let query = written(args)?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let (mut cursor, mut wait) = (None, args.wait.map(GlobalPosition::new));
    while left > 0 {
        let limit = left.min(PAGE_MAX as u64) as usize;
        let page = match place {
            Place::Server(remote) => fetch(remote, &query, limit, cursor, wait).await?,
            Place::Database(log) => read(log, &query, limit, cursor, wait).await?,
        };
        for row in &page.documents {
            if args.json {
                println!("{}", serde_json::to_string(row).context("rows are always JSON")?);
            } else {
                println!("{}  {}", row.key, row.document);
            }
        }
        left -= (page.documents.len() as u64).min(left);
        wait = None;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}

/// The query that the options come to.
fn written(args: &Args) -> Result<Query> {
    let mut query = Map::new();
    query.insert("projection".to_owned(), args.name.as_str().into());
    if let Some(key) = &args.key {
        query.insert("key".to_owned(), key.as_str().into());
    }
    if let Some(condition) = &args.condition {
        let condition: Value = serde_json::from_str(condition).map_err(|error| {
            failure(Reason::Usage, format!("--where {condition} is not JSON: {error}"))
        })?;
        query.insert("where".to_owned(), condition);
    }
    if args.order.is_some() || args.descending {
        let direction = if args.descending { "descending" } else { "ascending" };
        let mut order = json!({ "direction": direction });
        if let Some(by) = &args.order {
            order["by"] = by.as_str().into();
        }
        query.insert("order".to_owned(), order);
    }
    let written = WrittenQuery::parse(&Value::Object(query))
        .map_err(|error| failure(Reason::Usage, error.message.to_string()))?;
    Ok(written.paged(NonZeroU32::new(PAGE_MAX as u32)))
}

async fn fetch(
    remote: &Remote,
    query: &Query,
    limit: usize,
    cursor: Option<String>,
    wait: Option<GlobalPosition>,
) -> Result<Page> {
    let mut parameters = vec![("limit", limit.to_string())];
    let written = query.to_json_from();
    if let Some(condition) = written.get("where") {
        parameters.push(("where", condition.to_string()));
    }
    if let Some(order) = written.get("order") {
        let text = |name| order.get(name).and_then(Value::as_str).map(str::to_owned);
        parameters.extend(text("by").map(|by| ("order", by)));
        parameters.extend(text("direction").map(|direction| ("direction", direction)));
    }
    parameters.extend(query.key.as_ref().map(|key| ("key", key.to_string())));
    parameters.extend(cursor.map(|cursor| ("cursor", cursor)));
    if let Some(wait) = wait {
        parameters.push(("wait", wait.to_string()));
        parameters.push(("timeout_ms", WAIT.as_millis().to_string()));
    }
    let path = ["projections", query.projection.as_str(), "documents"];
    let answer = remote.get_within(&path, &parameters, WAIT + ANSWER_WITHIN).await?;
    serde_json::from_value(answer).context("the server's answer is no page of documents")
}

async fn read(
    log: &Log,
    query: &Query,
    limit: usize,
    cursor: Option<String>,
    wait: Option<GlobalPosition>,
) -> Result<Page> {
    let definition = log.definition(&query.projection)?;
    let deadline = Instant::now() + WAIT;
    let generation = loop {
        let active = log.status(&query.projection).await?.active;
        if wait.is_none_or(|wait| active.checkpoint >= wait) {
            break active.generation;
        }
        if Instant::now() >= deadline {
            let text = format!("the projection has only reached {}", active.checkpoint);
            return Err(failure(Reason::Unavailable, text));
        }
        sleep(LOOK_EVERY).await;
    };
    let documents = &*log.documents;
    let page = query::page(documents, &definition, generation, query, cursor.as_deref(), limit)
        .await
        .map_err(|error| {
            let code = error.code();
            let reason = reason_of_code(code.as_str(), code.retryable());
            failure(reason, format!("{error} ({})", code.as_str()))
        })?;
    let documents = page.documents.iter().map(row).collect::<Result<_>>()?;
    Ok(Page { documents, next: page.next })
}

fn row(document: &StoredDocument) -> Result<Row> {
    let text = String::from_utf8_lossy(&document.data).into_owned();
    let key = document.key.to_string();
    Ok(Row { key, document: RawValue::from_string(text).context("what is stored is not JSON")? })
}
