//! Hosts a log: sockets, HTTP and pages, from the first connection to an orderly end.
//!
//! SIGTERM and SIGINT drain: every session is told goodbye with a delay of its own before it
//! comes back, requests under way are finished, what this node projects is let go of for another, then
//! the stores are closed. A second signal ends the process at once.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use actix_web::{App, HttpServer, middleware::DefaultHeaders, web};
use anyhow::{Context, Result};
use tidewire_eventstore::{EventStore, ProjectionName};
use tidewire_transport::{DatabaseRuntime, StartError, Tidewire};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    exit::{Reason, failure},
    pages::Pages,
    projecting::Projecting,
};

/// What it takes to host a log.
pub(crate) struct Host {
    /// Where connections come in.
    pub(crate) listener: TcpListener,
    /// The log.
    pub(crate) store: Arc<dyn EventStore>,
    /// The runtime that the log was opened on.
    pub(crate) runtime: DatabaseRuntime,
    /// The token that clients have to show.
    pub(crate) token: Option<String>,
    /// The transport's limits.
    pub(crate) transport: tidewire_transport::Config,
    /// Threads that serve sockets; as many as cores where not given.
    pub(crate) workers: Option<usize>,
    /// The pages beside the log.
    pub(crate) pages: Pages,
    /// What is kept beside the log.
    pub(crate) projecting: Option<Projecting>,
}

/// Takes the address.
///
/// # Errors
///
/// Somebody else has it, or it is not one of this machine's.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => failure(
            Reason::InUse,
            format!("{address} is in use by another program; choose another with --address"),
        ),
        io::ErrorKind::PermissionDenied => failure(
            Reason::Failed,
            format!("{address} may not be used by this user; choose a port above 1023"),
        ),
        _ => failure(Reason::Failed, format!("cannot listen on {address}: {error}")),
    })
}

/// Runs `work` on the system that carries sockets, to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    actix_web::rt::System::new().block_on(work)
}

/// Hosts until a signal comes or `until` resolves, which begins when everything stands; then
/// drains and closes the store. Has to be called inside [`block_on`].
pub(crate) async fn host<F: Future<Output = ()>>(
    host: Host,
    until: impl FnOnce(Tidewire) -> F,
) -> Result<()> {
    let Host { listener, store, runtime, token, transport, workers, pages, projecting } = host;
    make_room(transport.sessions_max);
    // Before anybody can connect, so that no signal finds the default handler.
    let mut signals = Signals::new()?;
    let mut tidewire =
        Tidewire::builder(Arc::clone(&store)).config(transport).token(token).runtime(runtime);
    if let Some(projecting) = &projecting {
        let collections = projecting.collections.iter().map(ProjectionName::as_str);
        tidewire =
            tidewire.projections(Arc::clone(&projecting.projections)).collections(collections);
    }
    let tidewire = tidewire.start().await.map_err(|error| match error {
        StartError::Config(_) => failure(Reason::Usage, error.to_string()),
        _ => anyhow::Error::from(error).context("cannot start the transport"),
    })?;
    let app = {
        let tidewire = tidewire.clone();
        move || {
            App::new()
                .wrap(DefaultHeaders::new().add(("x-content-type-options", "nosniff")))
                .configure(|app| pages.configure(app))
                .service(tidewire.scope())
                .default_service(web::to(tidewire_transport::not_found))
        }
    };
    let mut server = tidewire_transport::tune(HttpServer::new(app)).disable_signals();
    if let Some(workers) = workers {
        server = server.workers(workers);
    }
    let server = server.listen(listener).context("cannot listen")?.run();
    let handle = server.handle();
    let mut server = std::pin::pin!(server);

    tokio::select! {
        ended = &mut server => return ended.context("the server failed"),
        () = signals.wait() => {}
        () = until(tidewire.clone()) => {}
    }
    tracing::info!("draining");
    let drain = async {
        let left = tidewire.drain().await;
        if left > 0 {
            tracing::warn!(sessions = left, "sessions did not leave in time");
        }
        handle.stop(true).await;
    };
    tokio::select! {
        ((), ended) = async { tokio::join!(drain, server) } => ended.context("the server failed")?,
        () = signals.wait() => {
            return Err(failure(Reason::Failed, "interrupted again: ended without draining"));
        }
    }
    let close = async move {
        // The log last: what is being projected is read from it.
        if let Some(projecting) = projecting {
            projecting.close().await;
        }
        store.close().await;
    };
    tidewire.run(close).await;
    tracing::info!("closed");
    Ok(())
}

/// Descriptors that a session holds: its socket, and a second handle to cut it off.
const SESSION_FILES: u64 = 2;
/// Descriptors for everything else: the database, the threads, plain HTTP requests.
const OTHER_FILES: u64 = 256;

/// Raises the limit on open files as far as this user may, and says so if it is still too low.
fn make_room(sessions_max: usize) {
    let needed = SESSION_FILES * sessions_max as u64 + OTHER_FILES;
    // An error is answered by the limit being what it was.
    let _ = rlimit::increase_nofile_limit(needed);
    let Ok((limit, _)) = rlimit::Resource::NOFILE.get() else { return };
    if limit < needed {
        let sessions = limit.saturating_sub(OTHER_FILES) / SESSION_FILES;
        tracing::info!(
            open_files = limit,
            sessions,
            "room for fewer sessions than sessions_max; raise the limit on open files (ulimit -n)"
        );
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
