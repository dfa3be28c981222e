//! A TCP proxy that does to connections what networks do: it cuts them, stalls them, swallows what
//! they carry, closes one half, and lets bytes trickle.
//!
//! One address in front of several: a new connection goes to the next address behind in turn, so
//! that a client that comes back may meet another server. A connection to an address where nobody
//! listens is cut at once.

mod link;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result};
use tokio::{net::TcpListener, task::JoinHandle};

pub(crate) use link::{Direction, Flow, Link};

/// A running proxy. It ends, and every connection through it, when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    links: Arc<Links>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Links {
    open: Mutex<BTreeMap<u64, Arc<Link>>>,
    accepted: AtomicU64,
    next_behind: AtomicUsize,
}

impl Proxy {
    /// Listens on a free port of the loopback interface, in front of `behind`.
    pub(crate) async fn start(behind: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for a proxy")?;
        let address = listener.local_addr()?;
        let links = Arc::new(Links::default());
        let accepting = tokio::spawn(accept(listener, behind, Arc::clone(&links)));
        Ok(Self { address, links, accepting })
    }

    /// The open connections, oldest first.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.links.lock().values().cloned().collect()
    }

    /// How many connections were accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.links.accepted.load(Relaxed)
    }

    /// Lets everything flow again that still can, and cuts what cannot.
    pub(crate) fn heal(&self) {
        for link in self.links() {
            link.heal();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        for link in self.links() {
            link.cut();
        }
    }
}

impl Links {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Link>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, behind: Vec<SocketAddr>, links: Arc<Links>) {
    loop {
        // Too many open files would be said again and again; the clients' deadlines find it.
        let Ok((socket, _)) = listener.accept().await else { continue };
        let id = links.accepted.fetch_add(1, Relaxed);
        let to = behind[links.next_behind.fetch_add(1, Relaxed) % behind.len()];
        let link = Arc::new(Link::new(to));
        links.lock().insert(id, Arc::clone(&link));
        let links = Arc::clone(&links);
        tokio::spawn(async move {
            link.run(socket).await;
            links.lock().remove(&id);
        });
    }
}
