use std::net::{Ipv4Addr, TcpListener};
use std::sync::Weak;
use std::time::Instant;

use contract::jetstream::request::RefusalCode;
use contract::wire::request::Direction;

use super::*;

struct NoObserver;

impl Observer for NoObserver {
    fn first_packet(&self, _: ProducerNumber, _: FirstPacket) {}
    fn transport_lost(&self, _: Role, _: ProducerNumber) {}
}

fn no_observer() -> Weak<dyn Observer> {
    let observer: Weak<NoObserver> = Weak::new();
    observer
}

fn settings(workers: u16, first_port: u16) -> SfuSettings {
    let listen = ListenSettings {
        addresses: vec![ListenAddress::default()],
        first_port,
        tcp: true,
    };
    SfuSettings {
        workers,
        listen,
        ice_consent_timeout_s: 30,
        tcp_connections: 16,
    }
}

fn dead(id: SfuWorkerId) -> DeadWorker {
    DeadWorker {
        id,
        slot: 0,
        reason: "simulated".to_owned(),
    }
}

#[tokio::test]
async fn a_router_is_created_on_the_worker_with_the_fewest() {
    let (pool, _deaths) = WorkerPool::start(settings(2, 0)).await.unwrap();
    let first = pool.create_router(no_observer()).await.unwrap();
    let second = pool.create_router(no_observer()).await.unwrap();
    assert_ne!(first.sfu_worker_id(), second.sfu_worker_id());
    let freed = first.sfu_worker_id();
    drop(first);
    assert_eq!(pool.create_router(no_observer()).await.unwrap().sfu_worker_id(), freed);
    let [one, two] = pool.addresses()[..] else {
        panic!("two workers, two ports")
    };
    assert_ne!(one, two);
}

#[tokio::test]
async fn a_dead_worker_is_replaced_on_its_port() {
    // Of TCP, which has more ports in use.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (pool, _deaths) = WorkerPool::start(settings(1, free)).await.unwrap();
    let router = pool.create_router(no_observer()).await.unwrap();
    assert!(pool.start_worker(0).await.is_err(), "its port is taken while it lives");
    pool.remove(&dead(router.sfu_worker_id() + 100));
    assert!(pool.is_complete(), "the dead worker was another one");
    pool.remove(&dead(router.sfu_worker_id()));
    assert!(!pool.is_complete());
    let refusal = pool.create_router(no_observer()).await.err().unwrap();
    assert_eq!(refusal.code, RefusalCode::Internal);

    let before = router.sfu_worker_id();
    drop(router);
    let deadline = Instant::now() + refusals::REQUEST_TIMEOUT;
    // The thread of the old worker closes the port after the router is dropped.
    while let Err(error) = pool.start_worker(0).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
    assert!(pool.is_complete());
    assert_eq!(pool.addresses()[0].port(), free);
    assert_ne!(pool.create_router(no_observer()).await.unwrap().sfu_worker_id(), before);
}

#[tokio::test]
async fn a_party_has_access_to_its_own_transports_only() {
    let (pool, _deaths) = WorkerPool::start(settings(1, 0)).await.unwrap();
    let mut router = pool.create_router(no_observer()).await.unwrap();
    let (created, replaced) = router.create_transport(Role::User, Direction::Send).await.unwrap();
    assert_eq!(replaced, None);
    let dtls = created.dtls_parameters;
    let refusal = router
        .connect_transport(Role::Otomo, &created.id, dtls.clone())
        .await
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::UnknownTransport);
    router
        .connect_transport(Role::User, &created.id, dtls.clone())
        .await
        .unwrap();
    let refusal = router
        .connect_transport(Role::User, &created.id, dtls)
        .await
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::WrongState);
}
