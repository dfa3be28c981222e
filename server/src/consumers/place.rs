//! Where consumers are asked about: a running server, or the database.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidewire_eventstore::{
    CONSUMERS_PAGE_MAX, ConsumerName, EventStore, GlobalPosition, PARKED_PAGE_MAX, Positions,
};

use super::row::{ConsumerRow, ParkedRow};
use crate::{
    client::{Remote, ServerArgs},
    database::{DatabaseArgs, Purpose},
};

/// Positions that a server takes in one request.
const POSITIONS_MAX: usize = 1000;

/// A server or a database.
pub(crate) enum Place {
    Server(Remote),
    Database(Arc<dyn EventStore>),
}

/// A page of rows, and what to ask for to get the next.
pub(crate) struct Rows<T, N> {
    pub(crate) rows: Vec<T>,
    pub(crate) next: Option<N>,
}

/// What is to become of parked events.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Replay,
    Drop,
}

impl Place {
    pub(crate) async fn open(server: &ServerArgs, database: &DatabaseArgs) -> Result<Self> {
        match server.remote()? {
            Some(remote) => Ok(Self::Server(remote)),
            None => Ok(Self::Database(database.database()?.open(Purpose::Look).await?)),
        }
    }

    pub(crate) async fn close(&self) {
        if let Self::Database(store) = self {
            store.close().await;
        }
    }

    /// The consumers after `after`, by name.
    pub(crate) async fn consumers(
        &self,
        after: Option<ConsumerName>,
    ) -> Result<Rows<ConsumerRow, ConsumerName>> {
        match self {
            Self::Server(remote) => {
                let query = after.as_ref().map(|after| ("after", after.to_string()));
                let mut page = remote.get(&["consumers"], query.as_slice()).await?;
                let next = page.get("next").and_then(Value::as_str);
                let next = next.map(ConsumerName::recorded).transpose()?;
                Ok(Rows { rows: field(&mut page, "consumers")?, next })
            }
            Self::Database(store) => {
                let infos = store.consumers().consumers(after, CONSUMERS_PAGE_MAX).await?;
                let full = infos.len() == CONSUMERS_PAGE_MAX;
                let next = infos.last().filter(|_| full).map(|last| last.name.clone());
                Ok(Rows { rows: infos.into_iter().map(ConsumerRow::from).collect(), next })
            }
        }
    }

    pub(crate) async fn consumer(&self, name: &ConsumerName) -> Result<ConsumerRow> {
        match self {
            Self::Server(remote) => {
                let answer = remote.get(&["consumers", name.as_str()], &[]).await?;
                serde_json::from_value(answer).context("the server's answer is no consumer")
            }
            Self::Database(store) => Ok(store.consumers().consumer(name.clone()).await?.into()),
        }
    }

    pub(crate) async fn delete(&self, name: &ConsumerName) -> Result<()> {
        match self {
            Self::Server(remote) => remote.delete(&["consumers", name.as_str()]).await,
            Self::Database(store) => Ok(store.consumers().delete_consumer(name.clone()).await?),
        }
    }

    /// At most `limit` parked events after `after`; a page may be shorter than that.
    pub(crate) async fn parked(
        &self,
        name: &ConsumerName,
        after: GlobalPosition,
        limit: usize,
    ) -> Result<Rows<ParkedRow, GlobalPosition>> {
        let limit = limit.clamp(1, PARKED_PAGE_MAX);
        match self {
            Self::Server(remote) => {
                let query = [("after", after.to_string()), ("limit", limit.to_string())];
                let mut page = remote.get(&["consumers", name.as_str(), "parked"], &query).await?;
                let next = page.get("next").and_then(Value::as_u64).map(GlobalPosition::new);
                Ok(Rows { rows: field(&mut page, "parked")?, next })
            }
            Self::Database(store) => {
                let page = store.consumers().parked(name.clone(), after, limit).await?;
                let next = page.parked.last().filter(|_| page.more).map(|last| last.position);
                Ok(Rows { rows: page.parked.into_iter().map(ParkedRow::from).collect(), next })
            }
        }
    }

    /// Replays or drops parked events; how many.
    pub(crate) async fn change(
        &self,
        name: &ConsumerName,
        positions: Positions,
        change: Change,
    ) -> Result<u64> {
        match self {
            Self::Server(remote) => {
                let verb = match change {
                    Change::Replay => "replay",
                    Change::Drop => "drop",
                };
                let path = ["consumers", name.as_str(), "parked", verb];
                let bodies: Vec<Value> = match &positions {
                    Positions::All => vec![json!({ "all": true })],
                    Positions::Listed(positions) => {
                        let body = |positions| json!({ "positions": positions });
                        positions.chunks(POSITIONS_MAX).map(body).collect()
                    }
                };
                let mut count = 0;
                for body in bodies {
                    let answer = remote.post(&path, body.to_string()).await?;
                    count +=
                        answer["count"].as_u64().context("the server's answer has no count")?;
                }
                Ok(count)
            }
            Self::Database(store) => {
                let (consumers, name) = (store.consumers(), name.clone());
                Ok(match change {
                    Change::Replay => consumers.replay(name, positions).await?,
                    Change::Drop => consumers.drop_parked(name, positions).await?,
                })
            }
        }
    }
}

fn field<T: DeserializeOwned>(answer: &mut Value, name: &str) -> Result<T> {
    serde_json::from_value(answer[name].take())
        .with_context(|| format!("the server's answer has no good {name:?}"))
}
