use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

use super::*;

struct Nobody;

impl Observer for Nobody {
    fn first_packet(&self, _: Source, _: FirstPacket) {}
    fn transport_gone(&self, _: Role, _: Source) {}
}

fn nobody() -> Weak<dyn Observer> {
    let observer: Weak<Nobody> = Weak::new();
    observer
}

fn settings(workers: u16, rtc_port: u16) -> SfuSettings {
    let listen_ip = Ipv4Addr::LOCALHOST.into();
    SfuSettings {
        workers,
        listen_ip,
        announced_address: None,
        rtc_port,
        ice_consent_timeout_s: 30,
    }
}

fn dead(host: HostId, slot: u16) -> Death {
    Death {
        host,
        slot,
        reason: "a test says so".to_owned(),
    }
}

#[tokio::test]
async fn calls_go_where_the_fewest_are_and_leave_their_place() {
    let (sfu, _deaths) = Sfu::start(settings(2, 0)).await.unwrap();
    let first = sfu.room(nobody()).await.unwrap();
    let second = sfu.room(nobody()).await.unwrap();
    assert_ne!(first.host(), second.host());
    let freed = first.host();
    drop(first);
    assert_eq!(sfu.room(nobody()).await.unwrap().host(), freed);
    let [one, two] = sfu.addresses()[..] else {
        panic!("two workers, two ports")
    };
    assert_ne!(one, two);
}

#[tokio::test]
async fn a_dead_worker_is_replaced_on_its_port() {
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (sfu, _deaths) = Sfu::start(settings(1, free)).await.unwrap();
    let room = sfu.room(nobody()).await.unwrap();
    assert!(sfu.revive(0).await.is_err(), "its port is taken while it lives");
    sfu.bury(&dead(room.host() + 100, 0));
    assert!(sfu.is_whole(), "that was another one");
    sfu.bury(&dead(room.host(), 0));
    assert!(!sfu.is_whole());
    let refusal = sfu.room(nobody()).await.err().unwrap();
    assert_eq!(refusal.code, RefusalCode::Internal);

    let before = room.host();
    drop(room);
    let deadline = Instant::now() + PATIENCE;
    // Its thread lets go of the port in its own time.
    while let Err(error) = sfu.revive(0).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
    assert!(sfu.is_whole());
    assert_eq!(sfu.addresses()[0].port(), free);
    assert_ne!(sfu.room(nobody()).await.unwrap().host(), before);
}

#[tokio::test]
async fn a_room_answers_for_its_own_party_only() {
    let (sfu, _deaths) = Sfu::start(settings(1, 0)).await.unwrap();
    let mut room = sfu.room(nobody()).await.unwrap();
    let created = room
        .create_transport(Role::User, contract::wire::command::Direction::Send)
        .await
        .unwrap();
    let dtls = created.dtls_parameters;
    let refusal = room
        .connect_transport(Role::Otomo, &created.id, dtls.clone())
        .await
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::UnknownTransport);
    room.connect_transport(Role::User, &created.id, dtls.clone())
        .await
        .unwrap();
    let refusal = room.connect_transport(Role::User, &created.id, dtls).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::WrongState);
}
