//! One connection through the proxy, and what is being done to it.

use std::{net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::{sleep, timeout},
};

/// The most that the proxy holds of a direction.
const BUFFER: usize = 16 << 10;
/// What trickles at once, and how often.
const TRICKLE: (usize, Duration) = (256, Duration::from_millis(20));
/// How long an address behind may take to accept.
const CONNECT: Duration = Duration::from_secs(5);

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Flow {
    /// They pass.
    #[default]
    Open,
    /// They wait where they are: the sender's buffers fill up.
    Stalled,
    /// They pass slowly.
    Trickle,
    /// They are taken and thrown away, so that the sender believes them to be on their way. Such
    /// a connection can only be cut.
    Swallowed,
    /// The receiver is told that nothing more comes, and nothing does. The other direction goes on.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    up: Flow,
    down: Flow,
    cut: bool,
}

impl State {
    fn of(self, direction: Direction) -> Flow {
        match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where it goes.
    pub(crate) to: SocketAddr,
    state: watch::Sender<State>,
}

impl Link {
    pub(super) fn new(to: SocketAddr) -> Self {
        Self { to, state: watch::Sender::new(State::default()) }
    }

    /// Changes what happens to one direction. What was swallowed or ended stays so.
    pub(crate) fn set(&self, direction: Direction, flow: Flow) {
        self.state.send_modify(|state| {
            let of = match direction {
                Direction::Up => &mut state.up,
                Direction::Down => &mut state.down,
            };
            if !matches!(of, Flow::Swallowed | Flow::Ended) {
                *of = flow;
            }
        });
    }

    /// Cuts both sides off with a reset.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Lets it flow again, or cuts it where that is not possible any more.
    pub(crate) fn heal(&self) {
        let state = *self.state.borrow();
        for direction in [Direction::Up, Direction::Down] {
            if matches!(state.of(direction), Flow::Swallowed | Flow::Ended) {
                return self.cut();
            }
            self.set(direction, Flow::Open);
        }
    }

    /// Carries until both directions have ended, one has failed, or it is cut.
    pub(super) async fn run(&self, mut client: TcpStream) {
        let mut state = self.state.subscribe();
        let connected = timeout(CONNECT, TcpStream::connect(self.to)).await;
        let Ok(Ok(mut server)) = connected else { return reset(&client) };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let ordinary = {
            let (client_reads, client_writes) = client.split();
            let (server_reads, server_writes) = server.split();
            let up = carry(self.state.subscribe(), Direction::Up, client_reads, server_writes);
            let down = carry(self.state.subscribe(), Direction::Down, server_reads, client_writes);
            tokio::select! {
                both = async { tokio::try_join!(up, down) } => both.is_ok(),
                () = cut(&mut state) => false,
            }
        };
        if !ordinary {
            reset(&client);
            reset(&server);
        }
    }
}

async fn cut(state: &mut watch::Receiver<State>) {
    // The sender lives as long as the link, which whoever waits here borrows.
    let _ = state.wait_for(|state| state.cut).await;
}

/// Has the socket end with a reset when it is dropped.
fn reset(socket: &TcpStream) {
    // Without it the socket ends in the ordinary way, which is a milder fault.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Carries one direction to its end. An error means that a socket has failed.
async fn carry(
    mut state: watch::Receiver<State>,
    direction: Direction,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let flow = state.borrow_and_update().of(direction);
        let most = match flow {
            Flow::Stalled => {
                changed(&mut state).await;
                continue;
            }
            Flow::Ended => {
                let _ = to.shutdown().await;
                std::future::pending::<()>().await;
                return Ok(());
            }
            Flow::Trickle => TRICKLE.0,
            Flow::Open | Flow::Swallowed => BUFFER,
        };
        let read = tokio::select! {
            read = from.read(&mut buffer[..most]) => read?,
            () = changed(&mut state) => continue,
        };
        if read == 0 {
            let _ = to.shutdown().await;
            return Ok(());
        }
        // It may have changed while nothing came.
        let flow = loop {
            let flow = state.borrow_and_update().of(direction);
            if flow != Flow::Stalled {
                break flow;
            }
            changed(&mut state).await;
        };
        match flow {
            Flow::Swallowed | Flow::Ended => continue,
            Flow::Trickle => sleep(TRICKLE.1).await,
            Flow::Open | Flow::Stalled => {}
        }
        to.write_all(&buffer[..read]).await?;
    }
}

async fn changed(state: &mut watch::Receiver<State>) {
    if state.changed().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::Proxy;
    use super::*;

    /// Both ends of a connection through a proxy, and the link between them.
    async fn connection() -> (Proxy, std::sync::Arc<Link>, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(vec![listener.local_addr().unwrap()]).await.unwrap();
        let client = TcpStream::connect(proxy.address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let link = proxy.links().pop().unwrap();
        (proxy, link, client, server)
    }

    async fn says(socket: &mut TcpStream) -> std::io::Result<u8> {
        timeout(Duration::from_secs(10), socket.read_u8()).await.expect("in time")
    }

    #[tokio::test]
    async fn bytes_pass_until_they_stall_and_pass_again_once_it_heals() {
        let (proxy, link, mut client, mut server) = connection().await;
        client.write_u8(1).await.unwrap();
        assert_eq!(says(&mut server).await.unwrap(), 1);
        link.set(Direction::Up, Flow::Stalled);
        client.write_u8(2).await.unwrap();
        server.write_u8(3).await.unwrap();
        assert_eq!(says(&mut client).await.unwrap(), 3, "the other direction goes on");
        assert!(server.try_read(&mut [0]).is_err(), "nothing came through");
        proxy.heal();
        assert_eq!(says(&mut server).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_cut_resets_both_sides() {
        let (_proxy, link, mut client, mut server) = connection().await;
        link.cut();
        for socket in [&mut client, &mut server] {
            let kind = says(socket).await.unwrap_err().kind();
            assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn a_half_that_ended_says_so_and_the_other_goes_on() {
        let (_proxy, link, mut client, mut server) = connection().await;
        link.set(Direction::Up, Flow::Ended);
        let ended = says(&mut server).await.unwrap_err().kind();
        assert_eq!(ended, std::io::ErrorKind::UnexpectedEof);
        server.write_u8(4).await.unwrap();
        assert_eq!(says(&mut client).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn what_was_swallowed_is_gone_and_healing_cuts() {
        let (proxy, link, mut client, mut server) = connection().await;
        link.set(Direction::Up, Flow::Swallowed);
        client.write_u8(5).await.unwrap();
        proxy.heal();
        let kind = says(&mut server).await.unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
    }
}
