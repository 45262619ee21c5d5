//! Hostile datagrams at the port of live calls: junk, cut and changed packets, and what was recorded of a real client.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::ensure;
use callpulse_tests::clients::transport::PendingTransport;
use callpulse_tests::wait::eventually;
use contract::Role;
use contract::wire::command::Requester;
use contract::wire::request::{Direction, TransportCreated};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, SOON, Sender, receives, requester, rtp_parameters};

/// Datagrams of each kind.
const EACH: usize = 2_000;
/// More than this is one too many for the kernel's buffer of a busy worker.
const BURST: usize = 50;
/// Recorded packets that are enough to change.
const RECORDED: usize = 100;

/// A client's way to the worker, which records what the client sends.
struct Relay {
    address: SocketAddr,
    worker: Arc<UdpSocket>,
    recorded: Arc<Mutex<Vec<Vec<u8>>>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    async fn to(worker: SocketAddr) -> Self {
        let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        outside.connect(worker).await.unwrap();
        let (recorded, client) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::new(Mutex::new(None)));
        let address = inside.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let (from, to, record, learned) = (
            Arc::clone(&inside),
            Arc::clone(&outside),
            Arc::clone(&recorded),
            Arc::clone(&client),
        );
        tasks.spawn(async move {
            let mut packet = [0; 2_048];
            while let Ok((length, sender)) = from.recv_from(&mut packet).await {
                *learned.lock() = Some(sender);
                record.lock().push(packet[..length].to_vec());
                let _ = to.send(&packet[..length]).await;
            }
        });
        let from = Arc::clone(&outside);
        tasks.spawn(async move {
            let mut packet = [0; 2_048];
            loop {
                // The worker's port may answer by ICMP.
                let Ok(length) = from.recv(&mut packet).await else {
                    continue;
                };
                let client = *client.lock();
                if let Some(client) = client {
                    let _ = inside.send_to(&packet[..length], client).await;
                }
            }
        });
        Self {
            address,
            worker: outside,
            recorded,
            _tasks: tasks,
        }
    }
}

fn udp_address(created: &TransportCreated) -> SocketAddr {
    let candidates = created.ice_candidates.as_array().unwrap();
    let udp = candidates.iter().find(|it| it["protocol"] == "udp").unwrap();
    format!("{}:{}", udp["address"].as_str().unwrap(), udp["port"])
        .parse()
        .unwrap()
}

/// As [`Fixture::join`], through a relay.
async fn join_through_relay(fixture: &Fixture, requester: &Requester) -> (Sender, Relay) {
    let payload_type = fixture.payload_type(requester).await;
    let created = fixture.create(requester, Direction::Send).await;
    let relay = Relay::to(udp_address(&created)).await;
    let mut through: Value = serde_json::to_value(&created).unwrap();
    let (ip, port) = (relay.address.ip().to_string(), relay.address.port());
    through["iceCandidates"] = json!([{ "protocol": "udp", "address": ip, "ip": ip, "port": port }]);
    let mut prepared = PendingTransport::new(&through, payload_type).await.unwrap();
    let ssrc = rand::random::<u32>() | 1;
    prepared.declare_stream(ssrc);
    fixture
        .connect(requester, &created.id, prepared.dtls_parameters())
        .await
        .unwrap();
    let send = prepared.start();
    let produced = fixture
        .produce(requester, &created.id, rtp_parameters(payload_type, ssrc))
        .await
        .unwrap();
    send.connected().await.unwrap();
    let sender = Sender {
        send,
        transport_id: created.id,
        producer_id: produced.producer_id,
        ssrc,
    };
    (sender, relay)
}

/// RFC 7983: what a datagram is, by its first byte.
fn is_stun(packet: &[u8]) -> bool {
    packet.first().is_some_and(|byte| *byte < 4)
}

fn changed(packet: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut packet = packet.to_vec();
    match rng.random_range(0..3) {
        0 => packet.truncate(rng.random_range(0..packet.len())),
        1 => {
            let at = rng.random_range(0..packet.len());
            packet[at] ^= 1 << rng.random_range(0..8);
        }
        // The header stays, and with it the SSRC or the type.
        _ => {
            let kept = rng.random_range(0..=packet.len().min(20));
            packet.iter_mut().skip(kept).for_each(|byte| *byte = rng.random());
        }
    }
    packet
}

fn junk(ssrc: u32, rng: &mut StdRng) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..rng.random_range(0..1_400)).map(|_| rng.random()).collect();
    let head: &[u8] = match rng.random_range(0..6) {
        0 => &[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42],
        1 => &[1, 1, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42],
        // DTLS: a handshake, an alert.
        2 => &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 1],
        3 => &[21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 0],
        // RTP, and RTCP: a goodbye.
        4 => &[0x80, 100, 0, 1, 0, 0, 0, 1],
        _ => &[0x81, 203, 0, 1],
    };
    let head = [head, &ssrc.to_be_bytes()[..]].concat();
    for (byte, given) in packet.iter_mut().zip(head) {
        *byte = given;
    }
    packet
}

#[tokio::test]
async fn hostile_datagrams_disturb_no_call_and_connect_none() {
    let mut fixture = Fixture::start(&[("rtp_lost_after_ms", "3000")]).await;
    let parties = fixture.call().await;
    let (user, otomo) = (requester(&parties, Role::User), requester(&parties, Role::Otomo));
    let (speaker, relay) = join_through_relay(&fixture, &user).await;
    let other = fixture.join(&otomo).await;
    let (hearing_user, hearing_otomo) = (fixture.listen(&otomo).await, fixture.listen(&user).await);
    speaker.talk().await;
    other.talk().await;
    fixture.fact(&parties, "rtp_detected").await;
    // Connected by DTLS, and silent.
    let silent = fixture.call().await;
    let (mute, mute_relay) = join_through_relay(&fixture, &requester(&silent, Role::User)).await;
    eventually("packets were recorded", SOON, async || {
        let recorded = relay.recorded.lock().len();
        ensure!(recorded >= RECORDED, "{recorded}");
        Ok(())
    })
    .await
    .unwrap();

    let seed = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    let recorded = relay.recorded.lock().clone();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.connect(relay.worker.peer_addr().unwrap()).await.unwrap();
    // From a stranger, and, worse, from the addresses of the clients themselves.
    for socket in [&stranger, &*relay.worker, &*mute_relay.worker] {
        let is_stranger = std::ptr::eq(socket, &stranger);
        for number in 0..EACH {
            let one = recorded.choose(&mut rng).unwrap();
            let ssrc = [speaker.ssrc, other.ssrc, mute.ssrc].choose(&mut rng).copied().unwrap();
            // A replayed ICE request is valid from any address: only somebody on the path has one.
            let replayed = (!is_stranger || !is_stun(one)).then(|| one.clone());
            for packet in [Some(changed(one, &mut rng)), Some(junk(ssrc, &mut rng)), replayed]
                .into_iter()
                .flatten()
            {
                let _ = socket.send(&packet).await;
            }
            if number % BURST == 0 {
                let heard = hearing_user.received();
                receives(&hearing_user, heard).await;
            }
        }
    }
    let heard = [hearing_user.received(), hearing_otomo.received()];
    receives(&hearing_user, heard[0] + 100).await;
    receives(&hearing_otomo, heard[1] + 100).await;
    assert_eq!(
        fixture.stored(&parties).await,
        ["rtp_detected", "media_started"],
        "seed {seed}"
    );
    assert!(fixture.stored(&silent).await.is_empty(), "seed {seed}");
    // The silent one can still speak.
    mute.talk().await;
    fixture.fact(&silent, "rtp_detected").await;
    fixture.assert_alive().await;
    let log = fixture.worker.child().log_tail();
    assert!(!log.contains("ERROR"), "{log}");
}
