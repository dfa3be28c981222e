//! Where projections are asked about: a running server, or the database.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidewire_eventstore::{EventStore, GlobalPosition, ProjectionName, Read, Target, Timestamp};
use tidewire_projections::{
    Definition, DocumentStore, StoreError,
    documents::{self, Status, Wish},
};

use super::row::{ParkedRow, ProjectionRow, word_of};
use crate::{
    client::{Remote, ServerArgs},
    config::{ProjectionTables, Settings},
    consumers::place::Rows,
    database::{DatabaseArgs, Purpose},
    exit::{Reason, failure},
};

/// A server or a database.
pub(crate) enum Place {
    Server(Remote),
    Database(Log),
}

/// A log and the documents beside it.
pub(crate) struct Log {
    events: Arc<dyn EventStore>,
    pub(super) documents: Arc<dyn DocumentStore>,
    /// What the settings have.
    projections: ProjectionTables,
}

impl Place {
    pub(crate) async fn open(server: &ServerArgs, database: &DatabaseArgs) -> Result<Self> {
        if let Some(remote) = server.remote()? {
            return Ok(Self::Server(remote));
        }
        let Settings { database, projections, .. } = database.settings()?;
        let events = database.open(Purpose::Look).await?;
        let documents = database.open_documents().await?;
        Ok(Self::Database(Log { events, documents, projections }))
    }

    pub(crate) async fn close(&self) {
        if let Self::Database(log) = self {
            log.documents.close().await;
            log.events.close().await;
        }
    }

    /// All projections, by name.
    pub(crate) async fn projections(&self) -> Result<Vec<ProjectionRow>> {
        match self {
            Self::Server(remote) => {
                let mut answer = remote.get(&["projections"], &[]).await?;
                field(&mut answer, "projections")
            }
            Self::Database(log) => {
                let statuses = log.documents.statuses().await?;
                let mut rows = Vec::with_capacity(statuses.len());
                for status in statuses {
                    rows.push(log.row(status).await?);
                }
                Ok(rows)
            }
        }
    }

    /// One projection.
    pub(crate) async fn projection(&self, name: &ProjectionName) -> Result<ProjectionRow> {
        match self {
            Self::Server(remote) => {
                let answer = remote.get(&["projections", name.as_str()], &[]).await?;
                serde_json::from_value(answer).context("the server's answer is no projection")
            }
            Self::Database(log) => log.row(log.status(name).await?).await,
        }
    }

    /// Asks whoever owns a projection to do something.
    pub(crate) async fn wish(&self, name: &ProjectionName, wish: Wish) -> Result<()> {
        match self {
            Self::Server(remote) => {
                let path = ["projections", name.as_str(), word_of(wish)];
                remote.post(&path, "{}".to_owned()).await.map(drop)
            }
            Self::Database(log) => {
                refuse_in_vain(&log.status(name).await?, wish)?;
                Ok(log.documents.wish(name, wish).await?)
            }
        }
    }

    /// Deletes a projection that nobody owns, with its documents.
    pub(crate) async fn forget(&self, name: &ProjectionName) -> Result<()> {
        let Self::Database(log) = self else {
            let text = "a server forgets nothing that it keeps: name the database instead";
            return Err(failure(Reason::Usage, text));
        };
        match log.documents.forget(name).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(failure(Reason::Failed, format!("there is no projection {name}"))),
            Err(StoreError::Owned) => {
                let text = format!("a server owns {name}: take it out of the settings first");
                Err(failure(Reason::Conflict, text))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// At most `limit` parked events after `after`; a page may be shorter than that.
    pub(crate) async fn parked(
        &self,
        name: &ProjectionName,
        after: GlobalPosition,
        limit: usize,
    ) -> Result<Rows<ParkedRow, GlobalPosition>> {
        let limit = limit.clamp(1, documents::PAGE_MAX);
        match self {
            Self::Server(remote) => {
                let query = [("after", after.to_string()), ("limit", limit.to_string())];
                let path = ["projections", name.as_str(), "parked"];
                let mut page = remote.get(&path, &query).await?;
                let next = page.get("next").and_then(Value::as_u64).map(GlobalPosition::new);
                Ok(Rows { rows: field(&mut page, "parked")?, next })
            }
            Self::Database(log) => {
                let generation = log.status(name).await?.active.generation;
                let parked = log.documents.parked(generation, after, limit).await?;
                let full = parked.len() == limit;
                let next = parked.last().filter(|_| full).map(|last| last.position);
                Ok(Rows { rows: parked.into_iter().map(ParkedRow::from).collect(), next })
            }
        }
    }
}

impl Log {
    pub(super) async fn status(&self, name: &ProjectionName) -> Result<Status> {
        let status = self.documents.status(name).await?;
        status.ok_or_else(|| failure(Reason::Failed, format!("there is no projection {name}")))
    }

    /// What the settings say that documents can be asked.
    pub(super) fn definition(&self, name: &ProjectionName) -> Result<Definition> {
        let all = self.projections.build()?.projections;
        let mut definitions = all.iter().map(|configured| configured.projection.definition());
        definitions.find(|definition| definition.name == *name).cloned().ok_or_else(|| {
            let text = format!("projection {name} is not in the settings; name them with --config");
            failure(Reason::Usage, text)
        })
    }

    async fn row(&self, status: Status) -> Result<ProjectionRow> {
        // The event that is missing first tells since when; read before the head, so that a lag
        // is never said to have an age and no events.
        let first = Read::after(Target::All, status.active.checkpoint, 1);
        let page = self.events.read(first).await.context("cannot look into the log")?;
        let micros = |since: Timestamp| Timestamp::now().as_micros() - since.as_micros();
        let lag = page.events.first().map(|event| micros(event.recorded_at).max(0) as f64 / 1e6);
        Ok(ProjectionRow::stored(status, page.head, lag))
    }
}

/// Refuses what there is nothing to do for.
fn refuse_in_vain(status: &Status, wish: Wish) -> Result<()> {
    let building = status.building.as_ref();
    let is_stopped = status.active.stopped.is_some()
        || building.is_some_and(|building| building.stopped.is_some());
    let message = match wish {
        Wish::Resume | Wish::Skip if !is_stopped => "has not stopped",
        Wish::Cancel if building.is_none() => "is not being rebuilt",
        _ => return Ok(()),
    };
    Err(failure(Reason::Conflict, format!("the projection {} {message}", status.name)))
}

fn field<T: DeserializeOwned>(answer: &mut Value, name: &str) -> Result<T> {
    serde_json::from_value(answer[name].take())
        .with_context(|| format!("the server's answer has no good {name:?}"))
}
