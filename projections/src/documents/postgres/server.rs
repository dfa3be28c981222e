//! Connections for documents: parsed from a URL, opened within a time, prepared the same way
//! whatever the server's defaults are.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tidewire_eventstore::postgres::{
    OpenError,
    driver::{Fault, reason},
};
use tokio::time::timeout;

use super::PostgresDocumentsOptions;

const PREPARE_SESSION: &str = include_str!("sql/prepare_session.sql");
const PREPARE_READING: &str = include_str!("sql/prepare_reading.sql");

/// A pooled connection idle for longer is asked for a sign of life before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Where to connect to, and how long it may take. Cheap to clone; never shows a password.
#[derive(Clone)]
pub(super) struct Server {
    options: PgConnectOptions,
    connect_timeout: Duration,
    statement_timeout: Duration,
}

impl Server {
    /// Reads the URL.
    pub(super) fn new(options: &PostgresDocumentsOptions) -> Result<Self, OpenError> {
        let url = &options.url;
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(OpenError::Url);
        }
        // The parser's error may quote a part of the URL, so it is not kept.
        let parsed = PgConnectOptions::from_str(url).map_err(|_| OpenError::Url)?;
        Ok(Self {
            options: parsed.application_name("tidewire").disable_statement_logging(),
            connect_timeout: options.connect_timeout,
            statement_timeout: options.statement_timeout,
        })
    }

    /// Host, port and database, for messages.
    pub(super) fn address(&self) -> String {
        let options = &self.options;
        let database = options.get_database().unwrap_or(options.get_username());
        match options.get_socket() {
            Some(socket) => format!("{}/{database}", socket.display()),
            None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
        }
    }

    /// Connects and prepares the session.
    pub(super) async fn connect(&self) -> Result<PgConnection, Fault> {
        let connected = async {
            let mut connection = self.options.connect().await?;
            sqlx::raw_sql(PREPARE_SESSION).execute(&mut connection).await?;
            Ok::<_, sqlx::Error>(connection)
        };
        match timeout(self.connect_timeout, connected).await {
            Ok(Ok(connection)) => Ok(connection),
            // Whatever a server says to a newcomer, it may say otherwise later.
            Ok(Err(error)) => Err(Fault::Busy(reason(&error))),
            Err(_) => Err(Fault::Busy("timed out while connecting".into())),
        }
    }

    /// A pool of connections that read, opened as they are needed.
    pub(super) fn read_pool(&self, connections: u32) -> PgPool {
        self.pool(connections)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(PREPARE_SESSION).execute(&mut *connection).await?;
                    sqlx::raw_sql(PREPARE_READING).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(self.options.clone())
    }

    /// A pool of connections that write, opened as they are needed.
    pub(super) fn write_pool(&self, connections: u32) -> PgPool {
        self.pool(connections)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(PREPARE_SESSION).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(self.options.clone())
    }

    fn pool(&self, connections: u32) -> PgPoolOptions {
        PgPoolOptions::new()
            .max_connections(connections.max(1))
            .acquire_timeout(self.connect_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > TRUSTED_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
    }

    /// Runs one statement, for at most the statement's time-out.
    pub(super) async fn within<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Fault> {
        self.in_time(statement).await?.map_err(Fault::from)
    }

    /// The same, for who reads the error in another way.
    pub(super) async fn in_time<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<Result<T, sqlx::Error>, Fault> {
        timeout(self.statement_timeout, statement)
            .await
            .map_err(|_| Fault::Lost("timed out while waiting for an answer".into()))
    }
}

/// A connection of `pool`.
pub(super) async fn acquire(pool: &PgPool) -> Result<PoolConnection<Postgres>, Fault> {
    pool.acquire().await.map_err(|error| {
        // Why a connection cannot be had now says nothing about later.
        Fault::Busy(reason(&error))
    })
}
