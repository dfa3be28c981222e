//! The limit: a program that does nothing but write the same bytes to the same sockets.
//!
//! It has no log, no protocol and no sessions: one loop over bare sockets. It is told over a
//! connection of its own how many events to write in how many frames, encodes them once, and
//! hands them to each socket in one write.

use std::{cell::RefCell, rc::Rc};

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use tidewire_eventstore::{
    EventId, EventType, GlobalPosition, Payload, RecordedEvent, Revision, StreamName, Timestamp,
};
use tidewire_protocol::{Sub, codec::json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{child, feed::payload};

/// Write to sockets what is ordered
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Bytes of each event's payload
    #[arg(long)]
    payload: usize,
}

/// What a session is told first, so that it knows where it stands.
const GREETING: &[&str] = &[
    "{\"type\":\"subscribed\",\"sub\":0,\"head\":0,\"after\":0,\"resumed\":true}",
    "{\"type\":\"live\",\"sub\":0,\"position\":0}",
];

type Sockets = Rc<RefCell<Vec<TcpStream>>>;

/// Writes until the parent ends.
///
/// # Errors
///
/// A socket fails.
pub(super) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        child::announce(listener.local_addr()?)?;
        let sockets = Sockets::default();
        let bytes = args.payload;
        loop {
            let (socket, _) = listener.accept().await?;
            let sockets = Rc::clone(&sockets);
            tokio::task::spawn_local(async move {
                if let Err(error) = serve(socket, sockets, bytes).await {
                    eprintln!("bare writer: {error:#}");
                }
            });
        }
    })
}

async fn serve(mut socket: TcpStream, sockets: Sockets, bytes: usize) -> Result<()> {
    socket.set_nodelay(true)?;
    socket2::SockRef::from(&socket).set_send_buffer_size(tidewire_transport::SOCKET_SEND_BYTES)?;
    let mut request = Vec::new();
    while memchr::memmem::find(&request, b"\r\n\r\n").is_none() {
        if socket.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await?;
    if request.starts_with(b"GET /control ") {
        return obey(socket, &sockets, bytes).await;
    }
    let mut greeting = BytesMut::new();
    for message in GREETING {
        tidewire_protocol::frame::text(message.as_bytes(), &mut greeting);
    }
    socket.write_all(&greeting).await?;
    sockets.borrow_mut().push(socket);
    Ok(())
}

/// Carries out orders until there are no more.
async fn obey(mut control: TcpStream, joining: &Sockets, bytes: usize) -> Result<()> {
    let mut sockets = Vec::new();
    let mut position = 0;
    let mut order = [0; 8];
    while control.read_exact(&mut order).await.is_ok() {
        sockets.append(&mut joining.borrow_mut());
        let [a, b, c, d, e, f, g, h] = order;
        let events = u64::from(u32::from_le_bytes([a, b, c, d]));
        let frames = u64::from(u32::from_le_bytes([e, f, g, h]));
        let chunk = encode(position, events, frames.clamp(1, events.max(1)), bytes)?;
        position += events;
        for socket in &sockets {
            write(socket, &chunk).await?;
        }
    }
    Ok(())
}

/// The events after `position`, spread over frames.
fn encode(position: u64, events: u64, frames: u64, bytes: usize) -> Result<Bytes> {
    let mut chunk = BytesMut::new();
    for frame in 0..frames {
        let (from, through) = (events * frame / frames, events * (frame + 1) / frames);
        let event = |n| {
            let mut out = BytesMut::new();
            json::encode_event(&event(position + n, bytes)?, &mut out);
            anyhow::Ok(out)
        };
        let events: Result<Vec<_>> = (from + 1..=through).map(event).collect();
        json::encode_events_frame(Sub::new(0), &events?, &mut chunk);
    }
    Ok(chunk.freeze())
}

fn event(position: u64, bytes: usize) -> Result<RecordedEvent> {
    Ok(RecordedEvent {
        position: GlobalPosition::new(position),
        stream: StreamName::new(&format!("bench-{}", position % 16))?,
        revision: Revision::new(position / 16),
        event_type: EventType::new("Measured")?,
        id: EventId::generate(),
        recorded_at: Timestamp::now(),
        payload: Payload::Json(payload(position, bytes).into()),
        meta: None,
    })
}

async fn write(socket: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                socket.writable().await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
