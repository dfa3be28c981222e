//! Runs the projections of a program beside its log: opens the documents, starts what keeps them,
//! and closes both in order.

use std::sync::Arc;

use anyhow::{Context, Result};
use tidewire_eventstore::{EventStore, ProjectionName};
use tidewire_projections::{DocumentStore, Projections};
use tokio::runtime::Handle;

use crate::{
    config::{Configured, Kept},
    database::Database,
    exit::{Reason, failure},
};

/// Projections that run, and where their documents are.
pub(crate) struct Projecting {
    /// What runs.
    pub(crate) projections: Arc<Projections>,
    /// Which of them clients may edit.
    pub(crate) collections: Vec<ProjectionName>,
    documents: Arc<dyn DocumentStore>,
}

impl Projecting {
    /// Opens the documents of `database` and keeps what is to be `kept` of what is in `log`. Nothing is
    /// opened where there is nothing to run. Must be called on the runtime that is to carry it.
    ///
    /// # Errors
    ///
    /// The documents cannot be used, or a projection cannot run.
    pub(crate) async fn start(
        database: &Database,
        log: Arc<dyn EventStore>,
        node: &str,
        kept: Kept,
    ) -> Result<Option<Self>> {
        if kept.projections.is_empty() {
            return Ok(None);
        }
        if let Database::Sqlite(_) = database {
            refuse_sql(&kept.projections)?;
        }
        let documents = database.open_documents().await?;
        let mut builder = Projections::builder(log, Arc::clone(&documents), node);
        for Configured { projection, policy } in kept.projections {
            builder = builder.projection(projection, policy);
        }
        let projections = builder.start(&Handle::current()).await.context("cannot project")?;
        let (projections, collections) = (Arc::new(projections), kept.collections);
        Ok(Some(Self { projections, collections, documents }))
    }

    /// Lets go of what this node owns and closes the documents. The log is still open then.
    pub(crate) async fn close(self) {
        self.projections.close().await;
        self.documents.close().await;
    }
}

/// SQL projections have their rows in the tables of a PostgreSQL database.
fn refuse_sql(configured: &[Configured]) -> Result<()> {
    match configured.iter().find(|configured| configured.projection.sql().is_some()) {
        Some(configured) => {
            let name = &configured.projection.definition().name;
            let text = format!(
                "projection {name:?} of the settings: `kind` is \"sql\", which needs a log in PostgreSQL"
            );
            Err(failure(Reason::Usage, text))
        }
        None => Ok(()),
    }
}
