//! What the tests of the PostgreSQL store share: databases of their own, a cluster of their own,
//! a link that can be cut, and short words for appending and reading.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod cluster;
pub(crate) mod doors;
pub(crate) mod link;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, Executor, PgConnection};
use tidewire_eventstore::{
    Append, AppendError, Appended, EventId, EventStore, EventType, ExpectedRevision,
    GlobalPosition, NewEvent, Read, RecordedEvent, StreamName, Target,
    postgres::{PostgresOptions, PostgresStore},
};
use uuid::Uuid;

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The server that tests make their databases on: the URL of a superuser.
pub(crate) fn server_url() -> String {
    std::env::var("TIDEWIRE_TEST_POSTGRES").unwrap_or_else(|_| {
        panic!(
            "TIDEWIRE_TEST_POSTGRES is not set: it is the URL of a PostgreSQL superuser, under \
             whom tests make databases. `cargo xtask test` starts a server and sets it."
        )
    })
}

/// A database of one test, dropped with it.
pub(crate) struct Database {
    server: String,
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Database {
    /// An empty database on the tests' server.
    pub(crate) async fn create() -> Self {
        Self::create_on(&server_url()).await
    }

    /// An empty database on the server at `server`.
    pub(crate) async fn create_on(server: &str) -> Self {
        let name = format!("tidewire_test_{}", Uuid::new_v4().simple());
        run(server, &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")).await;
        let url = on_database(server, &name);
        Self { server: server.into(), name, url }
    }

    /// Runs SQL as the superuser, from another database.
    pub(crate) async fn outside(&self, sql: &str) {
        run(&self.server, sql).await;
    }

    /// A plain connection.
    pub(crate) async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Lets nobody in, and throws everybody out.
    pub(crate) async fn shut(&self) {
        let name = &self.name;
        self.outside(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        self.throw_out().await;
    }

    /// Ends every session.
    pub(crate) async fn throw_out(&self) {
        self.outside(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        ))
        .await;
    }

    /// Lets everybody in again.
    pub(crate) async fn open(&self) {
        self.outside(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)).await;
    }

    pub(crate) fn options(&self) -> PostgresOptions {
        PostgresOptions::new(&self.url)
    }

    pub(crate) async fn store(&self) -> Arc<PostgresStore> {
        connect(self.options()).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A thread of its own: the test's runtime may be on its way out.
        let dropped = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // The server of the test may be gone with it.
                if let Ok(mut connection) = PgConnection::connect(&server).await {
                    let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                    let _ = connection.execute(sqlx::AssertSqlSafe(sql)).await;
                }
            });
        });
        let _ = dropped.join();
    }
}

pub(crate) async fn connect(options: PostgresOptions) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::connect(options).await.unwrap())
}

/// `url` with another database.
pub(crate) fn on_database(url: &str, name: &str) -> String {
    let (base, query) =
        url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let authority = base.find("://").unwrap() + 3;
    let end = base[authority..].find('/').map_or(base.len(), |slash| authority + slash);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &base[..end])
}

async fn run(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

pub(crate) fn event(data: impl Into<String>) -> NewEvent {
    NewEvent::json(EventType::new("Counted").unwrap(), data.into())
}

/// An event with a client-made id.
pub(crate) fn event_with_id(data: impl Into<String>) -> NewEvent {
    NewEvent { id: Some(EventId::generate()), ..event(data) }
}

pub(crate) fn append(stream: &str, events: Vec<NewEvent>) -> Append {
    Append { stream: StreamName::new(stream).unwrap(), expected: ExpectedRevision::Any, events }
}

pub(crate) async fn submit(
    store: &dyn EventStore,
    append: Append,
) -> Result<Appended, AppendError> {
    store.append(append)?.await
}

/// Every event of the log, by pages; checked for holes and doubles.
pub(crate) async fn whole_log(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let last = events.last().map_or(GlobalPosition::START, |event| event.position);
        let page = store.read(Read::after(Target::All, last, 1000)).await.unwrap();
        events.extend(page.events);
        if !page.more {
            break;
        }
    }
    assert_gapless(&events);
    events
}

/// Positions 1, 2, 3, … and revisions 0, 1, 2, … of each stream.
pub(crate) fn assert_gapless(events: &[RecordedEvent]) {
    let mut revisions = std::collections::HashMap::new();
    for (expected, event) in (1..).zip(events) {
        assert_eq!(event.position.get(), expected, "a hole or a double in the log");
        let next: &mut u64 = revisions.entry(event.stream.clone()).or_default();
        assert_eq!(event.revision.get(), *next, "a hole or a double in {}", event.stream);
        *next += 1;
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let since = Instant::now();
    while !condition().await {
        assert!(since.elapsed() < DEADLINE, "not within the deadline: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// `future`, which has to end.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within the deadline: {what}"),
    }
}
