//! Limits per client and per node: a client above a limit is disconnected and delays no other client.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use callpulse_tests::clients::party::{Handshake, Party};
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::token::{self, Role};
use futures::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::common::{assert_refused, edge, user};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_message_above_the_size_limit_closes_its_socket() {
    let stack = edge().start().await.unwrap();
    let (big, other) = (user(&stack, "user_001").await, user(&stack, "user_002").await);
    big.send_raw(Message::text("x".repeat(64 * 1024 + 1))).await.unwrap();
    let closed = big.until_closed(SOON).await.unwrap();
    assert!(closed.starts_with("close frame 1009"), "{closed}");
    assert_refused(&other, "call_dance", json!({}), "unknown_type").await;
}

/// Reads until the socket is closed, and returns the code.
async fn close_code_after(endpoint: &str, token: String, address: SocketAddr, bytes: &[u8]) -> Option<CloseCode> {
    let request = ClientRequestBuilder::new(format!("ws://{address}{endpoint}").parse().unwrap())
        .with_header("Authorization", format!("Bearer {token}"));
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    socket.get_mut().write_all(bytes).await.unwrap();
    read_until_close(&mut socket).await.1
}

#[tokio::test]
async fn every_violation_of_the_protocol_is_answered_with_its_close_code() {
    let stack = edge().start().await.unwrap();
    let address = stack.edge(0).unwrap();
    // The mask of each frame is 0. A frame of 2 MiB is announced only.
    let too_long = [&[0x81, 0xff][..], &(2_u64 << 20).to_be_bytes(), &[0; 4]].concat();
    let cases: [(&str, &[u8], CloseCode); 8] = [
        ("not masked", &[0x81, 0x02, b'{', b'}'], CloseCode::Protocol),
        ("a reserved bit", &[0xc1, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
        ("a reserved opcode", &[0x83, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
        (
            "a continuation of nothing",
            &[0x80, 0x80, 0, 0, 0, 0],
            CloseCode::Protocol,
        ),
        ("a fragmented ping", &[0x09, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
        (
            "a message within a message",
            &[0x01, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0],
            CloseCode::Protocol,
        ),
        ("not UTF-8", &[0x81, 0x81, 0, 0, 0, 0, 0xff], CloseCode::Invalid),
        ("too long", &too_long, CloseCode::Size),
    ];
    for (endpoint, token) in [
        ("/ws", token::valid(Role::User, "user_001").unwrap()),
        ("/ops/live", token::operator("alice", Duration::from_secs(60)).unwrap()),
    ] {
        for (what, bytes, expected) in cases {
            let code = close_code_after(endpoint, token.clone(), address, bytes).await;
            assert_eq!(code, Some(expected), "{endpoint}: {what}");
        }
    }
}

#[tokio::test]
async fn a_flooding_client_is_rate_limited_and_then_disconnected() {
    let stack = edge().start().await.unwrap();
    let (flooding, other) = (user(&stack, "user_001").await, user(&stack, "user_002").await);
    for _ in 0..1_000 {
        if flooding.send(json!({ "type": "call_dance", "id": 1 })).await.is_err() {
            break;
        }
    }
    let closed = flooding.until_closed(SOON).await.unwrap();
    assert!(closed.starts_with("close frame 1008"), "{closed}");
    let errors = flooding.received_of("error");
    // Limited or not, an error names its request.
    assert!(errors.iter().all(|error| error.message["id"] == 1), "{errors:?}");
    let codes: Vec<_> = errors.iter().map(|error| error.payload()["code"].clone()).collect();
    let limited = codes.iter().filter(|code| **code == "rate_limited").count();
    assert!(
        limited >= 90 && codes.len() - limited >= 40,
        "{limited} of {}",
        codes.len()
    );
    assert_refused(&other, "call_dance", json!({}), "unknown_type").await;
    assert!(
        stack.edges[0]
            .metric("callpulse_ws_rate_limited_total")
            .await
            .unwrap()
            .unwrap()
            >= 100.0
    );
}

#[tokio::test]
async fn a_user_who_calls_and_cancels_in_a_loop_is_limited() {
    let stack = edge()
        .workers(1)
        .set("ws-edge", "limits.calls_per_minute_of_pair", 3)
        .start()
        .await
        .unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    // Over several sockets: the limit is the person's.
    let sockets = [user(&stack, "user_001").await, user(&stack, "user_001").await];
    let request = json!({ "otomoId": "otomo_777" });
    for round in 0..3 {
        let socket = &sockets[round % 2];
        let call = socket.request("call_request", request.clone()).await.unwrap();
        socket
            .request("call_cancel", json!({ "callId": call["callId"] }))
            .await
            .unwrap();
    }
    for socket in &sockets {
        assert_refused(socket, "call_request", request.clone(), "rate_limited").await;
        socket
            .send(json!({ "type": "call_request", "id": "again", "payload": request }))
            .await
            .unwrap();
        let error = socket.expect_notice("error").await.unwrap();
        let wait = error.payload()["retryAfterMs"].as_u64().unwrap();
        assert!((1..=20_001).contains(&wait), "{wait}");
    }
    assert_eq!(facts.all().await.unwrap().len(), 6);
    sockets[0]
        .request("call_request", json!({ "otomoId": "otomo_2" }))
        .await
        .unwrap();
    // The same name in the other role is not a second person.
    let own = json!({ "otomoId": "user_001" });
    assert_refused(&sockets[0], "call_request", own, "bad_message").await;
}

#[tokio::test]
async fn a_client_that_floods_with_pongs_is_disconnected() {
    let stack = edge().start().await.unwrap();
    let (flooding, other) = (user(&stack, "user_001").await, user(&stack, "user_002").await);
    for _ in 0..1_000 {
        if flooding.send_raw(Message::Pong(Default::default())).await.is_err() {
            break;
        }
    }
    let closed = flooding.until_closed(SOON).await.unwrap();
    assert!(closed.starts_with("close frame 1008"), "{closed}");
    assert_refused(&other, "call_dance", json!({}), "unknown_type").await;
}

#[tokio::test]
async fn a_socket_above_the_limit_of_its_party_closes_the_oldest() {
    let stack = edge()
        .set("ws-edge", "limits.connections_per_party", 2)
        .start()
        .await
        .unwrap();
    let (first, second) = (user(&stack, "user_001").await, user(&stack, "user_001").await);
    let third = user(&stack, "user_001").await;
    let closed = first.until_closed(SOON).await.unwrap();
    assert!(closed.starts_with("close frame 4001"), "{closed}");
    for party in [&second, &third] {
        assert_refused(party, "call_dance", json!({}), "unknown_type").await;
    }
}

#[tokio::test]
async fn a_full_node_rejects_clients_with_a_status_or_a_close() {
    let stack = edge().set("ws-edge", "limits.connections", 2).start().await.unwrap();
    let address = stack.edge(0).unwrap();
    let (party, _other) = (user(&stack, "user_001").await, user(&stack, "user_002").await);
    let token = token::valid(Role::User, "user_003").unwrap();
    let rejected = Party::rejected(address, &Handshake::bearer(token.clone())).await;
    assert_eq!(rejected.unwrap(), 503);
    // Browsers cannot read HTTP statuses.
    let browser = Handshake::browser(&token);
    let browser = Party::connect_with(address, "user_003", &browser).await.unwrap();
    let closed = browser.until_closed(SOON).await.unwrap();
    assert!(
        closed.starts_with("close frame 1013") && closed.contains("unavailable"),
        "{closed}"
    );
    assert_refused(&party, "call_dance", json!({}), "unknown_type").await;
}

async fn half_open(address: SocketAddr, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

async fn is_closed(mut stream: TcpStream) -> bool {
    let ended = tokio::time::timeout(SOON, stream.read(&mut [0; 16])).await.unwrap();
    matches!(ended, Ok(0) | Err(_))
}

const NOTHING: &[u8] = b"";
const HALF_A_REQUEST: &[u8] = b"GET /ws HTTP/1.1\r\nHost: x\r\n";

#[tokio::test]
async fn clients_that_read_no_page_keep_no_client_out() {
    let stack = edge()
        .set("ws-edge", "limits.connections", 5)
        .set("ws-edge", "limits.handshake_timeout_ms", 60_000)
        .start()
        .await
        .unwrap();
    let address = stack.edge(0).unwrap();
    let mut streams = Vec::new();
    for _ in 0..5 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let request = b"GET /assets/page.js HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        // The answer has begun.
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        streams.push(stream);
    }
    let mut parties = Vec::new();
    for number in 0..5 {
        parties.push(user(&stack, &format!("user_{number:03}")).await);
    }
    let displaced = r#"callpulse_ws_handshakes_total{outcome="displaced"}"#;
    assert_eq!(stack.edges[0].metric(displaced).await.unwrap().unwrap(), 5.0);
}

#[tokio::test]
async fn half_open_connections_time_out() {
    let stack = edge()
        .set("ws-edge", "limits.handshake_timeout_ms", 400)
        .start()
        .await
        .unwrap();
    for sent in [NOTHING, HALF_A_REQUEST] {
        assert!(is_closed(half_open(stack.edge(0).unwrap(), sent).await).await);
    }
    let timeouts = r#"callpulse_ws_handshakes_total{outcome="timeout"}"#;
    assert_eq!(stack.edges[0].metric(timeouts).await.unwrap().unwrap(), 2.0);
}

#[tokio::test]
async fn half_open_connections_keep_no_client_out() {
    let stack = edge()
        .set("ws-edge", "limits.connections", 20)
        .set("ws-edge", "limits.handshakes", 1)
        .set("ws-edge", "limits.handshakes_beside_notices", 1)
        .set("ws-edge", "limits.handshake_timeout_ms", 60_000)
        .start()
        .await
        .unwrap();
    let address = stack.edge(0).unwrap();
    let mut streams = Vec::new();
    for number in 0..20 {
        let sent = if number % 2 == 0 { NOTHING } else { HALF_A_REQUEST };
        streams.push(half_open(address, sent).await);
    }
    let mut parties = Vec::new();
    for number in 0..20 {
        parties.push(user(&stack, &format!("user_{number:03}")).await);
    }
    // The node is full of parties now, and closed a half-open connection for each.
    for stream in streams {
        assert!(is_closed(stream).await);
    }
    for party in &parties {
        assert_refused(party, "call_dance", json!({}), "unknown_type").await;
    }
    let edge = &stack.edges[0];
    let displaced = r#"callpulse_ws_handshakes_total{outcome="displaced"}"#;
    assert_eq!(edge.metric(displaced).await.unwrap().unwrap(), 20.0);
    assert_eq!(
        edge.metric("callpulse_ws_handshakes_waiting").await.unwrap().unwrap(),
        0.0
    );
}

/// A client of which nothing is read unless the test reads it.
async fn client_that_does_not_read(address: SocketAddr, name: &str) -> WebSocketStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let token = token::valid(Role::User, name).unwrap();
    let request = ClientRequestBuilder::new(format!("ws://{address}/ws").parse().unwrap())
        .with_header("Authorization", format!("Bearer {token}"));
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    socket
}

/// Reads to the end: how many messages there were, and the close.
async fn read_until_close(socket: &mut WebSocketStream<TcpStream>) -> (usize, Option<CloseCode>) {
    let mut messages = 0;
    while let Some(Ok(message)) = tokio::time::timeout(SOON, socket.next()).await.unwrap() {
        match message {
            Message::Close(frame) => return (messages, frame.map(|frame| frame.code)),
            _ => messages += 1,
        }
    }
    (messages, None)
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_delays_no_other_client() {
    let stack = edge().start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let nats = facts.client();
    let mut slow = client_that_does_not_read(stack.edge(0).unwrap(), "user_slow").await;
    // A second socket of the same party and a socket of another party, both reading.
    let (same, other) = (user(&stack, "user_slow").await, user(&stack, "user_002").await);
    assert!(matches!(slow.next().await, Some(Ok(Message::Text(text))) if text.contains("welcome")));

    let notice = json!({ "type": "tick", "payload": { "filler": "x".repeat(4_000) } }).to_string();
    let sent = 600;
    for _ in 0..sent {
        for to in ["user_slow", "user_002"] {
            nats.publish(format!("user.{to}.tick"), notice.clone().into())
                .await
                .unwrap();
        }
        // At the pace of the reading clients, so that their queues do not overflow.
        same.expect_notice("tick").await.unwrap();
        other.expect_notice("tick").await.unwrap();
    }
    let closed = r#"callpulse_ws_closed_total{reason="slow"}"#;
    stack.edges[0]
        .metric_becomes(closed, SOON, |closed| closed == 1.0)
        .await
        .unwrap();
    let (messages, close) = read_until_close(&mut slow).await;
    assert_eq!(close, Some(CloseCode::Again), "after {messages} messages");
    assert!(messages < sent);
    assert_refused(&other, "call_dance", json!({}), "unknown_type").await;
}

#[tokio::test]
async fn a_silent_client_is_closed_after_two_ping_intervals() {
    let stack = edge()
        .set("ws-edge", "limits.ping_interval_ms", 150)
        .start()
        .await
        .unwrap();
    let mut silent = client_that_does_not_read(stack.edge(0).unwrap(), "user_silent").await;
    let alive = user(&stack, "user_001").await;
    let closed = r#"callpulse_ws_closed_total{reason="silent"}"#;
    stack.edges[0]
        .metric_becomes(closed, SOON, |closed| closed == 1.0)
        .await
        .unwrap();
    assert_eq!(read_until_close(&mut silent).await.1, Some(CloseCode::Away));
    assert_refused(&alive, "call_dance", json!({}), "unknown_type").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_delay_the_shutdown() {
    let mut stack = edge().start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let _slow = client_that_does_not_read(stack.edge(0).unwrap(), "user_slow").await;
    let other = user(&stack, "user_slow").await;
    let notice = json!({ "type": "tick", "payload": { "filler": "x".repeat(4_000) } }).to_string();
    for _ in 0..150 {
        let sent = facts.client().publish("user.user_slow.tick", notice.clone().into());
        sent.await.unwrap();
        other.expect_notice("tick").await.unwrap();
    }
    let status = stack.edges[0].terminate(Duration::from_secs(5)).await.unwrap();
    assert!(status.success(), "{status}");
    let closed = other.until_closed(SOON).await.unwrap();
    assert!(closed.starts_with("close frame 1012"), "{closed}");
}

#[tokio::test]
async fn the_thread_of_notices_has_a_higher_priority_than_those_of_the_runtime() {
    let stack = edge().start().await.unwrap();
    let _user = user(&stack, "user_001").await;
    let tasks = format!("/proc/{}/task", stack.edges[0].child().pid());
    let mut nice = BTreeMap::<String, BTreeSet<i32>>::new();
    for task in std::fs::read_dir(tasks).unwrap() {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (start, fields) = stat.rsplit_once(") ").unwrap();
        let name = start.split_once('(').unwrap().1;
        // The 19th field of proc_pid_stat(5); the first one here is the third.
        let value = fields.split(' ').nth(16).unwrap().parse().unwrap();
        nice.entry(name.to_owned()).or_default().insert(value);
    }
    let lower = nice["notices"].iter().map(|nice| nice + ws_edge::RUNTIME_NICE);
    assert_eq!(nice["tokio-rt-worker"], lower.collect(), "{nice:?}");
}
