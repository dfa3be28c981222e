//! A TCP link to the database that can be told to cut a connection at the worst moment.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
};

/// What happens to the next request that contains the marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request goes to the server and its answer is lost, with the connection.
    LoseAnswer,
    /// The request is lost, with the connection.
    LoseRequest,
    /// The connection is lost at once; the request arrives only when [`Link::deliver`] is called.
    DelayRequest,
}

#[derive(Default)]
struct State {
    fault: Option<(Vec<u8>, Fault)>,
    struck: u32,
}

/// A listening port in front of the database.
pub(crate) struct Link {
    port: u16,
    state: Arc<Mutex<State>>,
    deliver: Arc<Notify>,
    delivered: Arc<Notify>,
}

impl Link {
    /// A link to the server of `url`, with the faults to come.
    pub(crate) async fn to(url: &str) -> Self {
        let target = address(url);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let (deliver, delivered) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let link = Self {
            port,
            state: Arc::clone(&state),
            deliver: Arc::clone(&deliver),
            delivered: Arc::clone(&delivered),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&target).await.unwrap();
                let carried = Carried {
                    state: Arc::clone(&state),
                    deliver: Arc::clone(&deliver),
                    delivered: Arc::clone(&delivered),
                };
                tokio::spawn(carried.carry(client, server));
            }
        });
        link
    }

    /// `url`, through the link.
    pub(crate) fn through(&self, url: &str) -> String {
        url.replacen(&address(url), &format!("127.0.0.1:{}", self.port), 1)
    }

    /// Strikes the next request that contains `marker`.
    pub(crate) fn strike(&self, marker: &str, fault: Fault) {
        self.state.lock().unwrap().fault = Some((marker.as_bytes().to_vec(), fault));
    }

    /// How many faults have struck.
    pub(crate) fn struck(&self) -> u32 {
        self.state.lock().unwrap().struck
    }

    /// Lets a delayed request arrive, and waits until the server has answered it.
    pub(crate) async fn deliver(&self) {
        self.deliver.notify_one();
        self.delivered.notified().await;
    }
}

struct Carried {
    state: Arc<Mutex<State>>,
    deliver: Arc<Notify>,
    delivered: Arc<Notify>,
}

impl Carried {
    async fn carry(self, client: TcpStream, server: TcpStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let (cut, cutting) = oneshot::channel::<()>();
        let backward = tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                _ = cutting => {}
            }
            from_server
        });
        let mut buffer = vec![0; 1 << 20];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            let request = &buffer[..count];
            let Some(fault) = self.fault_for(request) else {
                if to_server.write_all(request).await.is_err() {
                    break;
                }
                continue;
            };
            let _ = cut.send(());
            // The way back is shut, and its end at the client with it.
            let Ok(mut from_server) = backward.await else { return };
            let mut answer = [0; 1024];
            match fault {
                Fault::LoseRequest => {}
                Fault::LoseAnswer => {
                    to_server.write_all(request).await.unwrap();
                    assert!(from_server.read(&mut answer).await.unwrap() > 0, "no answer to lose");
                    drop(from_client);
                }
                Fault::DelayRequest => {
                    drop(from_client);
                    self.deliver.notified().await;
                    to_server.write_all(request).await.unwrap();
                    assert!(from_server.read(&mut answer).await.unwrap() > 0, "no answer to lose");
                    self.delivered.notify_one();
                }
            }
            return;
        }
        let _ = to_server.shutdown().await;
    }

    fn fault_for(&self, request: &[u8]) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let (marker, fault) = state.fault.as_ref()?;
        let fault = *fault;
        let hit = request.windows(marker.len()).any(|window| window == marker.as_slice());
        if !hit {
            return None;
        }
        state.fault = None;
        state.struck += 1;
        Some(fault)
    }
}

/// Host and port of `url`.
fn address(url: &str) -> String {
    let rest = &url[url.find("://").unwrap() + 3..];
    let rest = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if host.contains(':') { host.into() } else { format!("{host}:5432") }
}
