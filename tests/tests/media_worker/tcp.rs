//! Media over TCP: connections that have proven nothing.

use std::time::Duration;

use anyhow::ensure;
use callpulse_tests::servers::child::open_descriptors;
use callpulse_tests::wait::eventually;
use contract::Role;
use contract::wire::request::{Direction, TransportCreated};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fixture::{Fixture, SOON, requester};

/// More than may wait for their first frame on one port.
const IDLE: usize = 300;
/// The documented number of those.
const PENDING: usize = 256;

async fn connect(created: &TransportCreated) -> TcpStream {
    let candidates = created.ice_candidates.as_array().unwrap();
    let tcp = candidates.iter().find(|it| it["protocol"] == "tcp").unwrap();
    let (address, port) = (tcp["address"].as_str().unwrap(), tcp["port"].as_u64().unwrap());
    TcpStream::connect(format!("{address}:{port}")).await.unwrap()
}

/// A STUN binding request for a transport, in the frame of RFC 4571. It has no MESSAGE-INTEGRITY.
fn binding_request(fragment: &str) -> Vec<u8> {
    let username = format!("{fragment}:client");
    let padded = username.len().next_multiple_of(4);
    let mut packet = vec![0, 1];
    packet.extend(u16::try_from(4 + padded).unwrap().to_be_bytes());
    packet.extend([0x21, 0x12, 0xa4, 0x42]);
    packet.extend([7; 12]);
    packet.extend([0, 6]);
    packet.extend(u16::try_from(username.len()).unwrap().to_be_bytes());
    packet.extend(username.as_bytes());
    packet.resize(24 + padded, 0);
    let mut frame = u16::try_from(packet.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(packet);
    frame
}

fn fragment(ice_parameters: &Value) -> &str {
    ice_parameters["usernameFragment"].as_str().unwrap()
}

async fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    let mut byte = [0];
    matches!(timeout(within, stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
}

fn descriptors(fixture: &Fixture) -> usize {
    open_descriptors(fixture.worker.child().pid()).unwrap()
}

#[tokio::test]
async fn connections_that_send_nothing_are_few_and_short() {
    let mut fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let user = requester(&parties, Role::User);
    let created = fixture.create(&user, Direction::Send).await;
    let before = descriptors(&fixture);
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(connect(&created).await);
    }
    eventually("the oldest connections give way", SOON, async || {
        let open = descriptors(&fixture).saturating_sub(before);
        ensure!(open <= PENDING + 16, "{open} descriptors");
        Ok(())
    })
    .await
    .unwrap();
    // Meanwhile others are served.
    let speaker = fixture.join(&user).await;
    speaker.talk().await;
    fixture.fact(&parties, "rtp_detected").await;
    for stream in &mut idle {
        assert!(is_closed(stream, SOON).await);
    }
    fixture.assert_alive().await;
}

#[tokio::test]
async fn only_ice_requests_to_a_transport_are_relayed() {
    let mut fixture = Fixture::start(&[]).await;
    let parties = fixture.call().await;
    let user = requester(&parties, Role::User);
    let created = fixture.create(&user, Direction::Send).await;
    let garbage = [
        vec![0xff; 20_000],
        vec![0, 0],
        vec![0, 20],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for bytes in garbage.into_iter().chain([binding_request("unknown")]) {
        let mut stream = connect(&created).await;
        // The worker may close the connection before it has taken everything.
        let _ = stream.write_all(&bytes).await;
        assert!(is_closed(&mut stream, SOON).await, "{} bytes", bytes.len());
    }
    let mut stream = connect(&created).await;
    // Byte by byte: TCP has no messages.
    for byte in binding_request(fragment(&created.ice_parameters)) {
        stream.write_all(&[byte]).await.unwrap();
    }
    let mut head = [0; 4];
    timeout(SOON, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert!(matches!(head[2..], [0x01, 0x11 | 0x01]), "no STUN response: {head:?}");
    // It ends with the transport.
    fixture.create(&user, Direction::Send).await;
    eventually("the connection is closed", SOON, async || {
        ensure!(is_closed(&mut stream, Duration::from_millis(10)).await);
        Ok(())
    })
    .await
    .unwrap();
    fixture.assert_alive().await;
}
