use std::sync::Weak;

use callpulse_tests::fuzz::Fuzz;
use contract::Role;
use contract::wire::request::Direction;
use media_worker::detection::FirstPacket;
use media_worker::liveness::ProducerNumber;
use media_worker::sfu::{ListenAddress, ListenSettings, Observer, SfuSettings, WorkerPool};

/// Inputs for one router.
const PER_ROUTER: usize = 100;

struct NoObserver;

impl Observer for NoObserver {
    fn first_packet(&self, _: ProducerNumber, _: FirstPacket) {}
    fn transport_lost(&self, _: Role, _: ProducerNumber) {}
}

/// The parameters of a client, as a worker receives them, on a real mediasoup worker: none of them ends it.
#[tokio::test]
async fn webrtc_parameters() {
    let listen = ListenSettings {
        addresses: vec![ListenAddress::default()],
        first_port: 0,
        tcp: false,
    };
    let settings = SfuSettings {
        workers: 1,
        listen,
        ice_consent_timeout_s: 30,
        tcp_connections: 1,
    };
    let (pool, mut deaths) = WorkerPool::start(settings).await.unwrap();
    let mut fuzz = Fuzz::new("media", []).unwrap();
    let (mut produced, mut consumed, mut connected) = (0, 0, 0);
    'routers: loop {
        let observer: Weak<NoObserver> = Weak::new();
        let mut router = pool.create_router(observer).await.unwrap();
        for _ in 0..PER_ROUTER {
            let Some(input) = fuzz.next_json() else {
                break 'routers;
            };
            let mut transports = Vec::new();
            for direction in [Direction::Send, Direction::Recv] {
                let (created, _) = router.create_transport(Role::User, direction).await.unwrap();
                transports.push(created.id);
            }
            let [send, receive] = &transports[..] else {
                unreachable!("two directions")
            };
            let part = |key: &str| input.get(key).unwrap_or(&input).clone();
            let dtls = router.connect_transport(Role::User, send, part("dtls")).await;
            connected += u32::from(dtls.is_ok());
            let rtp = router.produce(Role::User, send, "audio", part("rtp"), true).await;
            produced += u32::from(rtp.is_ok());
            let (created, _) = router.create_transport(Role::Otomo, Direction::Recv).await.unwrap();
            let peer = router.consume(Role::Otomo, &created.id, part("capabilities")).await;
            consumed += u32::from(peer.is_ok());
            let _ = router.consume(Role::User, receive, part("capabilities")).await;
            if let Ok(death) = deaths.try_recv() {
                panic!("{death:?} by {input}");
            }
            assert!(pool.is_complete(), "a dead worker by {input}");
        }
    }
    println!(
        "{} inputs: {connected} connected, {produced} produced, {consumed} consumed",
        fuzz.tried()
    );
    assert!(connected > 0 && produced > 0 && consumed > 0, "the seeds are refused");
    fuzz.finish().unwrap();
}
