//! After its Close frame an endpoint sends no data frame (RFC 6455, section 5.5.1).

mod support;

use support::Server;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn text_frame(text: &str) -> Vec<u8> {
    let mut out = vec![0x81];
    if text.len() < 126 {
        out.push(0x80 | text.len() as u8);
    } else {
        out.push(0x80 | 126);
        out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(text.as_bytes());
    out
}

/// The opcodes of unmasked frames.
fn opcodes(mut bytes: &[u8]) -> Vec<u8> {
    let mut opcodes = Vec::new();
    while bytes.len() >= 2 {
        let (header, len) = match bytes[1] & 0x7f {
            126 if bytes.len() >= 4 => (4, u16::from_be_bytes([bytes[2], bytes[3]]) as usize),
            127 if bytes.len() >= 10 => {
                (10, u64::from_be_bytes(bytes[2..10].try_into().expect("eight")) as usize)
            }
            short => (2, short as usize),
        };
        opcodes.push(bytes[0] & 0x0f);
        bytes = bytes.get(header + len..).unwrap_or_default();
    }
    opcodes
}

#[tokio::test]
async fn no_event_follows_the_close_frame() {
    let server = Server::start();
    server.append_sized("big-1", 500, 1_000).await;
    let mut socket = TcpStream::connect(server.address).await.expect("a connection");
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    );
    socket.write_all(request.as_bytes()).await.expect("an open socket");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("an answer"));
    }
    let mut said = text_frame(r#"{"type":"hello","protocol":1}"#);
    said.extend(text_frame(r#"{"type":"subscribe","sub":1,"to":{"all":true},"after":"start"}"#));
    said.extend(text_frame("{"));
    socket.write_all(&said).await.expect("an open socket");
    let mut got = Vec::new();
    socket.read_to_end(&mut got).await.expect("the server ends the connection");
    let opcodes = opcodes(&got);
    let close = opcodes.iter().position(|code| *code == 8).expect("a Close frame");
    assert_eq!(opcodes[close + 1..], [0_u8; 0], "after Close: {opcodes:?}");
}

/// A client with a message that is too large has to learn why it was refused.
#[tokio::test]
async fn a_client_that_sends_too_much_learns_so() {
    let server = Server::with_config(|config| config.message_bytes_max = 1000);
    let mut socket = TcpStream::connect(server.address).await.expect("a connection");
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    );
    socket.write_all(request.as_bytes()).await.expect("an open socket");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("an answer"));
    }
    let mut said = vec![0x81, 0x80 | 127];
    said.extend_from_slice(&(8_u64 << 20).to_be_bytes());
    said.extend_from_slice(&[0; 4]);
    said.resize((8 << 20) + 14, b' ');
    // A client writes what it has to say, and then looks at what it was told.
    let written = socket.write_all(&said).await;
    let mut got = Vec::new();
    let read = socket.read_to_end(&mut got).await;
    assert!(
        written.is_ok() && opcodes(&got).contains(&8),
        "written {written:?}, read {read:?}, got {got:?}"
    );
}
