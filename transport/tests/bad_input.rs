//! Whatever a client sends, it gets a stable code, and the server goes on.

mod support;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use support::{Client, Server, Setup, eventually};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::{MaybeTlsStream, tungstenite::Message};

#[tokio::test]
async fn a_message_that_cannot_be_obeyed_is_answered_and_the_session_goes_on() {
    let server = Server::start();
    let mut client = server.connect().await;
    for (message, code) in [
        (r#"{"type":"frobnicate"}"#, "unknown_type"),
        (r#"[1]"#, "invalid_message"),
        (r#"{"type":"hello","protocol":1}"#, "already_hello"),
        (r#"{"type":"subscribe","sub":1}"#, "missing_field"),
        (r#"{"type":"subscribe","sub":-1,"to":{"all":true}}"#, "invalid_field"),
        (r#"{"type":"subscribe","sub":1,"to":{"stream":"a\u0000b"}}"#, "name_control_character"),
        (r#"{"type":"subscribe","sub":1,"to":{"all":true},"after":-3}"#, "invalid_field"),
        (r#"{"type":"subscribe","sub":1,"to":{"projection":"p"}}"#, "unknown_projection"),
        (r#"{"type":"unsubscribe","sub":9}"#, "unknown_sub"),
        (r#"{"type":"append","id":"x","stream":"s-1","events":[]}"#, "no_events"),
        (
            r#"{"type":"append","id":"x","stream":"$s","events":[{"type":"T","data":1}]}"#,
            "name_reserved",
        ),
        (r#"{"type":"append","id":"x","stream":"s-1","events":[{"type":"T"}]}"#, "missing_field"),
    ] {
        client.send_text(message.to_owned()).await;
        let error = client.expect("error").await;
        assert_eq!(error["code"], code, "{message}");
        assert_eq!(error["retryable"], false, "{message}");
    }
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    client
        .send_text(format!(
            r#"{{"type":"append","id":"x","stream":"s-1","events":[{{"type":"T","data":{deep}}}]}}"#
        ))
        .await;
    assert_eq!(client.expect("error").await["code"], "invalid_json");
    client.send(json!({ "type": "ping", "id": "still here" })).await;
    assert_eq!(client.expect("pong").await["id"], "still here");
}

#[tokio::test]
async fn what_cannot_be_read_closes_with_its_code() {
    let server = Server::with_config(|config| config.message_bytes_max = 1000);
    for (message, code) in [
        (Message::text("{"), 4501),
        (Message::binary(vec![1, 2, 3]), 1003),
        (Message::text("x".repeat(1001)), 1009),
        (Message::text(r#"{"type":"hello","protocol":9}"#), 4502),
    ] {
        let mut client = server.connect_silently().await;
        client.socket.send(message.clone()).await.expect("an open socket");
        assert_eq!(client.close_code().await, code, "{message:?}");
    }
    let mut client = server.connect().await;
    client.send(json!({ "type": "ping", "id": "others" })).await;
    client.expect("pong").await;
}

#[tokio::test]
async fn frames_that_break_rfc_6455_close_with_1002() {
    let server = Server::start();
    for frame in [
        &[0x81, 0x01, b'x'][..],   // not masked
        &[0xC1, 0x80, 0, 0, 0, 0], // a reserved bit
        &[0x83, 0x80, 0, 0, 0, 0], // an opcode that is not defined
        &[0x80, 0x80, 0, 0, 0, 0], // nothing to continue
        &[0x09, 0x80, 0, 0, 0, 0], // a fragmented ping
    ] {
        let mut client = server.connect().await;
        let MaybeTlsStream::Plain(socket) = client.socket.get_mut() else { panic!("TLS") };
        socket.write_all(frame).await.expect("an open socket");
        assert_eq!(client.close_code().await, 1002, "{frame:x?}");
    }
}

#[tokio::test]
async fn before_its_welcome_a_client_may_not_send_much() {
    let server = Server::start();
    let hello = |pad: usize| {
        let hello = json!({ "type": "hello", "protocol": 1, "pad": "x".repeat(pad) });
        Message::text(hello.to_string())
    };
    let mut client = server.connect_silently().await;
    client.socket.send(hello(256 << 10)).await.expect("an open socket");
    assert_eq!(client.close_code().await, 1009);

    // Refused by its header: its payload is never sent.
    let mut client = server.connect_silently().await;
    let MaybeTlsStream::Plain(socket) = client.socket.get_mut() else { panic!("TLS") };
    let mut header = vec![0x81, 0x80 | 127];
    header.extend_from_slice(&(256_u64 << 10 | 1).to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    socket.write_all(&header).await.expect("an open socket");
    assert_eq!(client.close_code().await, 1009);

    // From its welcome on it may, without waiting for it.
    let mut client = server.connect_silently().await;
    client.socket.feed(hello(200 << 10)).await.expect("an open socket");
    let large = json!({ "type": "ping", "id": "large", "pad": "x".repeat(1 << 20) });
    client.socket.send(Message::text(large.to_string())).await.expect("an open socket");
    client.expect("welcome").await;
    assert_eq!(client.expect("pong").await["id"], "large");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed() {
    let server = Server::with_config(|config| config.hello_timeout = Duration::from_millis(100));
    let mut client = server.connect_silently().await;
    assert_eq!(client.close_code().await, 4508);
    eventually("the session ends", async || server.tidewire().sessions() == 0).await;
}

#[tokio::test]
async fn a_token_opens_the_door_in_hello_or_beside_the_handshake() {
    let setup = Setup { token: Some("secret".to_owned()), ..Setup::default() };
    let server = Server::with(setup);
    let mut client = server.connect_silently().await;
    client.send(json!({ "type": "hello", "protocol": 1, "token": "wrong" })).await;
    assert_eq!(client.expect("error").await["code"], "unauthorized");
    assert_eq!(client.close_code().await, 4503);

    let mut client = server.connect_silently().await;
    client.send(json!({ "type": "hello", "protocol": 1, "token": "secret" })).await;
    client.expect("welcome").await;

    let protocols = [("sec-websocket-protocol", "tidewire.v1.json, bearer.secret")];
    let mut client = server.handshake(&protocols).await.expect("accepted");
    client.send(json!({ "type": "hello", "protocol": 1 })).await;
    client.expect("welcome").await;

    for (headers, status) in [
        ("", 401),
        ("authorization: Bearer wrong\r\n", 401),
        ("authorization: Bearer secret\r\n", 200),
    ] {
        let (got, _) = server.http_with("GET", "/events", "", headers, None).await;
        assert_eq!(got, status, "{headers}");
    }
    assert_eq!(server.http("GET", "/healthz", None).await.0, 200);
}

#[tokio::test]
async fn handshakes_from_elsewhere_or_in_other_tongues_are_refused() {
    let server = Server::with_config(|config| config.origins = vec!["https://shop.example".into()]);
    let own = format!("http://{}", server.address);
    for (header, accepted) in [
        (("origin", own.as_str()), Ok(())),
        (("origin", "https://shop.example"), Ok(())),
        (("origin", "https://evil.example"), Err(403)),
        (("origin", "null"), Err(403)),
        (("sec-websocket-protocol", "tidewire.v1.json"), Ok(())),
        (("sec-websocket-protocol", "graphql-ws, tidewire.v1.json"), Ok(())),
        (("sec-websocket-protocol", "graphql-ws"), Err(400)),
    ] {
        let got = server.handshake(&[header]).await;
        assert_eq!(got.map(|_: Client| ()), accepted, "{header:?}");
    }
    assert!(server.metric("tidewire_handshakes_refused_total").await >= 3.0);
}

#[tokio::test]
async fn a_name_that_is_not_the_servers_is_refused() {
    let server = Server::start();
    assert_eq!(server.handshake(&[("host", "evil.example")]).await.err(), Some(403));
    let evil = "host: evil.example\r\n";
    let (status, answer) = server.http_as(evil, "GET", "/events").await;
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("host_not_allowed"), "{answer}");

    let server = Server::with_config(|config| config.hosts = vec!["evil.example".into()]);
    assert_eq!(server.http_as(evil, "GET", "/events").await.0, 200);
}

#[tokio::test]
async fn one_session_more_than_a_node_takes_is_refused() {
    let server = Server::with_config(|config| config.sessions_max = 2);
    let first = server.connect().await;
    let _second = server.connect().await;
    assert_eq!(server.handshake(&[]).await.err(), Some(503));
    assert_eq!(server.metric("tidewire_sessions_refused_total").await, 1.0);
    assert_eq!(server.metric("tidewire_sessions").await, 2.0);
    drop(first);
    eventually("there is room again", async || server.handshake(&[]).await.is_ok()).await;
}

#[tokio::test]
async fn one_subscription_more_than_a_session_may_have_is_refused() {
    let server = Server::with_config(|config| config.subscriptions_max = 2);
    let mut client = server.connect().await;
    for sub in [1, 2] {
        client.subscribe_all(sub, json!("end")).await;
        client.expect("live").await;
    }
    client.send(json!({ "type": "subscribe", "sub": 3, "to": { "all": true } })).await;
    assert_eq!(client.expect("error").await["code"], "too_many_subscriptions");
    assert_eq!(server.metric("tidewire_subscriptions").await, 2.0);
}

#[tokio::test]
async fn garbage_never_takes_the_server_down() {
    let server = Server::start();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..200 {
        let mut client = server.connect().await;
        let MaybeTlsStream::Plain(socket) = client.socket.get_mut() else { panic!("TLS") };
        let mut garbage = Vec::new();
        for _ in 0..64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            garbage.push((seed >> 56) as u8);
        }
        // Half of them begin like a frame, so that more than the first byte is looked at.
        if seed & 1 == 0 {
            garbage[0] = 0x81;
            garbage[1] = 0x80 | (garbage[1] & 0x3f);
        }
        socket.write_all(&garbage).await.expect("an open socket");
        socket.shutdown().await.expect("an open socket");
        while let Some(Ok(_)) = client.socket.next().await {}
    }
    eventually("all sessions end", async || server.tidewire().sessions() == 0).await;
    let mut client = server.connect().await;
    client.send(json!({ "type": "ping", "id": "alive" })).await;
    client.expect("pong").await;
}
