//! The documents as the servers tell them over HTTP, held against a fold of the log; and rebuilds,
//! which have to come to an end.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use super::{Fold, NEWEST, View, difference, newest};
use crate::{http, ledger::Ledger, log::Log, random::Random, server::Server};

/// How long documents may take to be what the log makes of them, and a rebuild to end.
const SETTLE: Duration = Duration::from_secs(60);
/// How long a rebuild may take to be taken note of, while servers come and go.
const ASK: Duration = Duration::from_secs(120);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(50);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(10);

/// A page of documents, or what is known of a projection.
#[derive(Debug, Deserialize)]
struct Page {
    documents: Vec<Entry>,
    more: bool,
}

#[derive(Debug, Deserialize)]
struct Entry {
    key: String,
    document: Value,
}

#[derive(Debug, Deserialize)]
struct Status {
    generation: u64,
    stopped: Option<Value>,
    building: Option<Value>,
    wish: Option<Value>,
    parked: u64,
}

/// What is known of the rebuilds of a world.
#[derive(Debug)]
pub(crate) struct Rebuilds {
    servers: Vec<Arc<Server>>,
    ledger: Arc<Ledger>,
}

impl Rebuilds {
    pub(crate) fn new(servers: Vec<Arc<Server>>, ledger: Arc<Ledger>) -> Self {
        Self { servers, ledger }
    }

    /// Asks for a rebuild of a projection, of one server after the other until one takes note, some
    /// time into a storm. Tells the generation that is to be replaced.
    ///
    /// # Errors
    ///
    /// None does in time.
    pub(crate) async fn ask(self, view: View, mut random: Random) -> Result<(View, u64)> {
        sleep(random.millis(0..4000)).await;
        let began_at = Instant::now();
        loop {
            let server = &self.servers[random.index(self.servers.len())];
            if let Ok(generation) = self.ask_once(server, view).await {
                self.ledger.trace(format_args!("{} is to be rebuilt", view.name()));
                return Ok((view, generation));
            }
            if began_at.elapsed() > ASK {
                bail!("nobody takes note of a rebuild within {ASK:?}");
            }
            sleep(LOOK * 4).await;
        }
    }

    async fn ask_once(&self, server: &Server, view: View) -> Result<u64> {
        let before = status(server, view).await?;
        let path = format!("/projections/{}/rebuild", view.name());
        let answer = http::request(server.address, REQUEST, "POST", &path, Some("{}")).await?;
        if answer.status / 100 != 2 {
            bail!("{} {}", answer.status, answer.body);
        }
        Ok(before.generation)
    }
}

/// Waits until every server's documents are what the log makes of them, and until `rebuilt` were
/// replaced. What is wrong goes to the ledger.
pub(crate) async fn check(
    servers: &[Arc<Server>],
    ledger: &Ledger,
    log: &Log,
    rebuilt: &[(View, u64)],
) {
    let began_at = Instant::now();
    for view in View::EACH {
        let mut fold = Fold::new(view);
        let expected = fold.of(log);
        let before = rebuilt.iter().find(|(of, _)| *of == view).map(|(_, before)| *before);
        for server in servers {
            loop {
                let wrong = match wrong(server, view, expected, log.head(), before).await {
                    Ok(None) => break,
                    Ok(Some(wrong)) => wrong,
                    Err(error) => format!("does not tell: {error:#}"),
                };
                if began_at.elapsed() > SETTLE {
                    let (name, view) = (server.name(), view.name());
                    ledger.violation(format!("the projection {view} on {name} {wrong}"));
                    return;
                }
                sleep(LOOK).await;
            }
        }
    }
}

/// What is wrong with a projection, as one server tells it.
async fn wrong(
    server: &Server,
    view: View,
    expected: &BTreeMap<String, Value>,
    head: u64,
    before: Option<u64>,
) -> Result<Option<String>> {
    let name = view.name();
    let status = status(server, view).await?;
    if let Some(stopped) = status.stopped {
        return Ok(Some(format!("has stopped: {stopped}")));
    }
    if status.parked > 0 {
        return Ok(Some(format!("has parked {} events", status.parked)));
    }
    if let (Some(before), Status { generation, building, wish, .. }) = (before, &status)
        && (*generation <= before || building.is_some() || wish.is_some())
    {
        return Ok(Some(format!(
            "was to be rebuilt beside generation {before}; it has {generation}, is building \
             {building:?} and has the wish {wish:?}"
        )));
    }
    let all =
        page(server, &format!("/projections/{name}/documents?limit=1000&wait={head}")).await?;
    let all: BTreeMap<String, Value> =
        all.into_iter().map(|Entry { key, document }| (key, document)).collect();
    if let Some(difference) = difference(&all, expected) {
        return Ok(Some(difference));
    }
    // The same by the index.
    let path = format!("/projections/{name}/documents?order=revision&direction=descending");
    let first = page(server, &format!("{path}&limit={NEWEST}")).await?;
    let first: Vec<_> = first.iter().map(|entry| (&entry.key, &entry.document)).collect();
    if first != newest(expected) {
        return Ok(Some(format!("has {first:?} as the newest, and not {:?}", newest(expected))));
    }
    Ok(None)
}

async fn status(server: &Server, view: View) -> Result<Status> {
    read(server, &format!("/projections/{}", view.name())).await
}

async fn page(server: &Server, path: &str) -> Result<Vec<Entry>> {
    let page: Page = read(server, path).await?;
    if page.more && page.documents.len() != NEWEST {
        bail!("there are more documents than there are streams");
    }
    Ok(page.documents)
}

async fn read<T: for<'de> Deserialize<'de>>(server: &Server, path: &str) -> Result<T> {
    let answer = http::request(server.address, REQUEST, "GET", path, None).await?;
    if answer.status != 200 {
        bail!("GET {path}: {} {}", answer.status, answer.body.trim());
    }
    serde_json::from_str(&answer.body).with_context(|| format!("GET {path}: {:.200}", answer.body))
}
