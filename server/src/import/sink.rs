//! Where imported events go: a database, or a running server.

use std::{future::Future, pin::Pin, sync::Arc};

use anyhow::Result;
use tidewire_client::{Client, ClientConfig, OutboxLimits};
use tidewire_eventstore::{
    Append, AppendError, EventStore, ExpectedRevision, GlobalPosition, NewEvent, StreamName,
};

use super::line::LINE_BYTES_MAX;
use crate::{
    client::{Remote, refused},
    database::{Database, Purpose},
};

/// Where events go.
pub(super) enum Sink {
    /// The store commits what waits as one transaction.
    Database(Arc<dyn EventStore>),
    /// The client sends again what a broken connection left without an answer.
    Server(Client),
}

/// An append under way; resolves to the position of its event.
pub(super) type Settling = Pin<Box<dyn Future<Output = Result<GlobalPosition>> + Send>>;

/// What became of an append that was to begin.
pub(super) enum Begun {
    /// It is under way.
    Under(Settling),
    /// There is no room before one that is under way has settled.
    Full,
}

/// How much may be under way at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) appends: usize,
    pub(super) bytes: usize,
}

const DATABASE: Room = Room { appends: 2048, bytes: 64 << 20 };
const SERVER: Room = Room { appends: 512, bytes: 4 << 20 };

/// How often in a row the server may not be there before the import ends: for about two minutes.
const ATTEMPTS_MAX: u32 = 10;

impl Sink {
    /// Opens a database.
    pub(super) async fn database(database: &Database) -> Result<Self> {
        Ok(Self::Database(database.open(Purpose::Visit).await?))
    }

    /// Connects to a server.
    pub(super) async fn server(remote: &Remote) -> Result<Self> {
        // Twice what is let begin: ids and field names come to a line, some 200 bytes each.
        let bytes = 2 * (SERVER.bytes + LINE_BYTES_MAX);
        let outbox = OutboxLimits { requests: SERVER.appends, bytes, ..OutboxLimits::default() };
        let config = ClientConfig { outbox, attempts_max: ATTEMPTS_MAX, ..ClientConfig::default() };
        Ok(Self::Server(remote.connect("import", config).await?))
    }

    /// How much may be under way at once.
    pub(super) fn room(&self) -> Room {
        match self {
            Self::Database(_) => DATABASE,
            Self::Server(_) => SERVER,
        }
    }

    /// Begins to append one event. Those of one stream take effect in the order of the calls.
    pub(super) async fn begin(&self, stream: StreamName, event: NewEvent) -> Result<Begun> {
        let expected = ExpectedRevision::Any;
        let settling: Settling = match self {
            Self::Database(store) => {
                match store.append(Append { stream, expected, events: vec![event] }) {
                    Ok(pending) => Box::pin(async { Ok(pending.await?.position) }),
                    Err(AppendError::Overloaded) => return Ok(Begun::Full),
                    Err(error) => return Err(error.into()),
                }
            }
            Self::Server(client) => {
                let pending = client.begin_append(stream, expected, vec![event]).await?;
                Box::pin(async {
                    match pending.await {
                        Ok(settled) => Ok(settled.position),
                        Err(tidewire_client::AppendError::Refused(error)) => Err(refused(&error)),
                        Err(error) => Err(error.into()),
                    }
                })
            }
        };
        Ok(Begun::Under(settling))
    }

    /// Lets go of it.
    pub(super) async fn close(self) {
        match self {
            Self::Database(store) => store.close().await,
            Self::Server(client) => client.close().await,
        }
    }
}
