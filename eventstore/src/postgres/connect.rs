//! Connections: parsed from a URL, opened within a time, prepared the same way whatever the
//! server's defaults are.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use super::{
    OpenError, PostgresOptions,
    fault::{Fault, reason},
};

const PREPARE_SESSION: &str = include_str!("sql/prepare_session.sql");
const PREPARE_READING: &str = include_str!("sql/prepare_reading.sql");

/// The oldest server that will do, as `server_version_num` has it.
const SERVER_VERSION_MIN: u32 = 130_000;

/// A pooled connection idle for longer is asked for a sign of life before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Where to connect to, and how long it may take. Cheap to clone; never shows a password.
#[derive(Clone)]
pub(super) struct Server {
    options: PgConnectOptions,
    pub(super) connect_timeout: Duration,
    pub(super) statement_timeout: Duration,
}

impl Server {
    /// Reads the URL.
    pub(super) fn new(url: &str, options: &PostgresOptions) -> Result<Self, OpenError> {
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
            Ok(Err(error)) => Err(Fault::Lost(reason(&error))),
            Err(_) => Err(Fault::Lost("timed out while connecting".into())),
        }
    }

    /// Connects for the first time, when a fault is an error to report, and makes sure that the
    /// server is fit to hold a log.
    pub(super) async fn open(&self) -> Result<PgConnection, OpenError> {
        let refused = |reason| OpenError::Connect { address: self.address(), reason };
        let mut connection = self.connect().await.map_err(|fault| refused(fault.reason()))?;
        if let Some(version) = connection.server_version_num()
            && version < SERVER_VERSION_MIN
        {
            let reason = format!("PostgreSQL 13 or later is needed, this is {version}");
            return Err(OpenError::Unsuitable { reason });
        }
        let encoding: String = sqlx::query_scalar("SHOW server_encoding")
            .fetch_one(&mut connection)
            .await
            .map_err(|error| refused(reason(&error)))?;
        if encoding != "UTF8" {
            let reason = format!("its encoding is {encoding}, not UTF8");
            return Err(OpenError::Unsuitable { reason });
        }
        Ok(connection)
    }

    /// A pool of connections that read, opened as they are needed.
    pub(super) fn read_pool(&self, connections: u32) -> PgPool {
        self.working_pool(connections)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(PREPARE_SESSION).execute(&mut *connection).await?;
                    sqlx::raw_sql(PREPARE_READING).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(self.options.clone())
    }

    /// A pool of connections that read and write, opened as they are needed.
    pub(super) fn write_pool(&self, connections: u32) -> PgPool {
        self.working_pool(connections)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(PREPARE_SESSION).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(self.options.clone())
    }

    /// Connections that are asked for a sign of life when they have been idle.
    fn working_pool(&self, connections: u32) -> PgPoolOptions {
        self.pool(connections).before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
    }

    /// A pool of one connection for LISTEN.
    pub(super) fn listen_pool(&self) -> PgPool {
        self.pool(1).idle_timeout(None).max_lifetime(None).connect_lazy_with(self.options.clone())
    }

    fn pool(&self, connections: u32) -> PgPoolOptions {
        PgPoolOptions::new()
            .max_connections(connections.max(1))
            .acquire_timeout(self.connect_timeout)
            .test_before_acquire(false)
    }

    /// Runs one statement, for at most [`Self::statement_timeout`].
    pub(super) async fn within<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Fault> {
        match timeout(self.statement_timeout, statement).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Fault::Lost("timed out while waiting for an answer".into())),
        }
    }
}
