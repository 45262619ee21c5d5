//! The service's start and end.

use std::sync::Arc;
use std::time::Duration;

use contract::buckets::active_calls::ActiveCalls;
use contract::buckets::last_heartbeats::LastHeartbeats;
use contract::jetstream::check::check;
use contract::jetstream::storage::Storage;
use contract::wire::terms::Terms;
use contract::{FactStore, Nats, NodeId, Source};
use service::{BoxError, CommonSettings, DescriptorNeed, Health, ServiceContext, ServiceSettings};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::client_address::TrustedProxies;
use crate::calls::accept::CallAcceptor;
use crate::calls::billing_watch::BillingWatch;
use crate::calls::call_limits::CallLimits;
use crate::calls::command_server;
use crate::calls::deadlines::{CallChecks, Deadlines};
use crate::calls::end::CallEnder;
use crate::calls::grant::GrantRelay;
use crate::calls::handler::RequestHandler;
use crate::calls::media_worker_client::MediaWorkerClient;
use crate::calls::placement::KnownWorkers;
use crate::calls::presence::Presence;
use crate::calls::request::CallSetup;
use crate::calls::rtc_relay::RtcRelay;
use crate::calls::snapshot::SnapshotReader;
use crate::calls::storage::CallStorage;
use crate::calls::terminate::Terminator;
use crate::calls::wallet::WalletClient;
use crate::connection::handshake_limiter::HandshakeLimiter;
use crate::connection::notice_subscriber::NoticeSubscriber;
use crate::connection::registry::ConnectionRegistry;
use crate::connection::{self, resync};
use crate::handshake::Authenticator;
use crate::handshake::token::{KeySources, Tokens};
use crate::http::address_limiter::AddressLimiter;
use crate::http::listener;
use crate::http::pages::Pages;
use crate::metrics;
use crate::ops::{self, OpsFeed};
use crate::settings::Settings;
use crate::tls::Certificate;
use crate::turn::TurnServers;

/// The service's name in facts and on NATS.
const SERVICE: &str = "ws-edge";
/// How much higher the nice value of the runtime's threads is than that of the thread of notices: whatever thousands of sockets that open
/// or close at once need, notices to live calls go first.
pub const RUNTIME_NICE: i32 = 10;
/// What generated node names start with.
const NODE_PREFIX: &str = "edge";

impl ServiceSettings for Settings {
    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn descriptors(&self) -> Vec<DescriptorNeed> {
        vec![DescriptorNeed {
            key: "limits.connections",
            descriptors: self.limits.connections as u64,
        }]
    }

    async fn try_connections(&self) -> Vec<Result<String, String>> {
        let mut outcomes = Vec::new();
        match KeySources::open(&self.jwt, Health::default().condition("keys")).await {
            Ok(keys) => outcomes.extend(keys.failures().map(|failure| Err(failure.to_owned()))),
            Err(error) => outcomes.push(Err(error.to_string())),
        }
        if let Err(error) = Certificate::open(self.tls.clone()).await {
            outcomes.push(Err(error.to_string()));
        }
        if outcomes.is_empty() {
            outcomes.push(Ok("the keys of tokens, and the certificate, can be read".to_owned()));
        }
        outcomes.extend(check(&self.nats, self.nats_password.expose(), SERVICE).await);
        outcomes
    }
}

/// Runs the service until it is asked to stop, and drained.
///
/// # Errors
/// If a port is taken, the storage differs from what the code needs, or a task ends early.
pub async fn run(settings: Settings, context: ServiceContext) -> Result<(), BoxError> {
    let node_id = match settings.node_id.clone() {
        Some(node_id) => node_id,
        None => NodeId::generate(NODE_PREFIX)?,
    };
    metrics::register();
    let (nats_up, storage_open) = (context.health.condition("nats"), context.health.condition("streams"));
    let watching = context.health.condition("watches");

    let keys = KeySources::open(&settings.jwt, context.health.condition("keys")).await?;
    let tokens = Arc::new(Tokens::new(&settings.jwt, keys.ring()));
    let certificate = Certificate::open(settings.tls).await?;
    let listener = listener::bind(settings.listen, &settings.limits)?;
    let password = settings.nats_password.expose();
    let name = format!("{SERVICE} {node_id}");
    let nats = Nats::connect(&settings.nats, password, &name).await?;
    // What other teams send, apart: a message whose headers the client cannot parse ends the connection on which it arrives.
    let from_teams = Nats::connect(&settings.nats, password, &format!("{name} other teams")).await?;
    let (notice_subscriber, notice_thread) =
        NoticeSubscriber::start(&settings.nats, password, &name, settings.limits.connections).await?;
    context.announce([
        ("ws", listener.local_addr()?.to_string()),
        ("node_id", node_id.to_string()),
    ]);

    let storage = tokio::select! {
        storage = Storage::open_when_available(&nats) => storage?,
        () = context.stop.cancelled() => return Ok(()),
    };
    storage_open.set(true);

    let tracker = TaskTracker::new();
    let notices = nats.notice_publisher.clone();
    let facts = FactStore::new(&nats, &storage, Source::new(SERVICE, &node_id));
    let active = ActiveCalls::new(&storage, facts.clone());
    let storage_timeout = Duration::from_millis(settings.storage_timeout_ms);
    let command_timeout = Duration::from_millis(settings.command_timeout_ms);
    let last_heartbeats = LastHeartbeats::new(&nats, &storage);
    let calls = CallStorage::new(facts, active, last_heartbeats, storage_timeout);
    let workers = MediaWorkerClient::new(nats.clone(), command_timeout);
    let known_workers = KnownWorkers::default();
    let billing_watch = BillingWatch::new(settings.billing_timeout_ms.map(Duration::from_millis));
    let ender = CallEnder {
        storage: calls.clone(),
        workers: workers.clone(),
        known_workers: known_workers.clone(),
        notices: notices.clone(),
    };
    let grants = GrantRelay {
        storage: calls.clone(),
        workers: workers.clone(),
        calls: settings.calls,
    };
    let handler = RequestHandler {
        nats: nats.clone(),
        setup: CallSetup {
            storage: calls.clone(),
            wallet: WalletClient {
                nats: from_teams.clone(),
                settings: settings.credit,
                calls: settings.calls,
                terms: Terms::from(&settings.terms),
            },
            ender: ender.clone(),
            notices: notices.clone(),
            presence: Presence {
                nats: nats.clone(),
                policy: settings.offline_otomo,
            },
            known_workers: known_workers.clone(),
            billing: billing_watch.clone(),
            node_id: node_id.clone(),
            limits: CallLimits::new(&settings.limits),
            ring_timeout: Duration::from_millis(settings.ring_timeout_ms),
            storage_timeout,
        },
        acceptor: CallAcceptor {
            storage: calls.clone(),
            known_workers: known_workers.clone(),
            workers: workers.clone(),
            billing: billing_watch.clone(),
            notices,
        },
        ender: ender.clone(),
        relay: RtcRelay {
            storage: calls.clone(),
            workers,
            turn: TurnServers::new(&settings.turn),
        },
        request_timeout: storage_timeout + command_timeout,
    };
    let checks = CallChecks {
        storage: calls.clone(),
        ender: ender.clone(),
        known_workers,
        node_id: node_id.clone(),
    };
    let limits = settings.limits;
    let registry = ConnectionRegistry::new(
        notice_subscriber.clone(),
        limits.connections_per_party,
        limits.message_bytes,
    );
    let sessions = Arc::new(connection::Deps {
        limits: limits.clone(),
        registry: registry.clone(),
        snapshots: SnapshotReader { storage: calls },
        handler,
        tokens: Arc::clone(&tokens),
        tracker: tracker.clone(),
    });
    let ops_feed = OpsFeed::new(nats.clone());
    let accept = listener::Deps {
        authenticator: Authenticator::new(tokens, settings.allowed_origins),
        tls: certificate.as_ref().map(Certificate::acceptor).transpose()?,
        pages: settings.pages.then(Pages::built_in),
        proxies: TrustedProxies::new(settings.trusted_proxies, settings.forwarded_header),
        addresses: AddressLimiter::new(limits.connections_per_address),
        handshakes: {
            let registry = registry.clone();
            HandshakeLimiter::new(&limits, move || registry.has_live_notices())
        },
        limits,
        nats: nats.clone(),
        sessions: Arc::clone(&sessions),
        ops: ops_feed.clone(),
        node_id: node_id.clone(),
        tracker,
    };

    let stop = &context.stop;
    let mut tasks = context.tasks();
    let following = storage
        .clone()
        .follow(nats.clone(), move |holds| storage_open.set(holds));
    tasks.spawn_until_stop("storage", following);
    tasks.spawn("billing_watch", billing_watch.run(nats.clone(), stop.clone()));
    // Clients keep what they depend on until their sockets are closed, which takes a while.
    let drained = CancellationToken::new();
    let accept = listener::serve(listener, Arc::new(accept), stop.clone(), drained.clone());
    tasks.spawn("listener", accept);
    tasks.spawn("keys", keys.follow(drained.clone()));
    if let Some(certificate) = certificate {
        tasks.spawn("certificate", certificate.follow(stop.clone()));
    }
    let terminator = Terminator { ender };
    tasks.spawn(
        "terminate",
        command_server::serve(from_teams.clone(), terminator, stop.clone()),
    );
    tasks.spawn("grant", command_server::serve(from_teams.clone(), grants, stop.clone()));
    tasks.spawn("notices", notice_thread.run(drained.clone()));
    let resync = resync::run(sessions, nats.clone(), notice_subscriber, nats_up, drained.clone());
    tasks.spawn("resync", resync);
    let sockets = move || registry.socket_count();
    tasks.spawn(
        "reports",
        ops::serve_reports(ops_feed, node_id, sockets, drained.clone()),
    );
    let grace = Duration::from_millis(settings.takeover_grace_ms);
    let deadlines = Deadlines::new(nats.clone(), &storage, checks, grace, watching);
    tasks.spawn("deadlines", deadlines.run(drained));
    let outcome = tasks.join().await;
    for nats in [nats, from_teams] {
        if nats.state().borrow().connected {
            // The last answers and notices are still in the client's buffer.
            context.drain("nats", nats.client.flush()).await.transpose()?;
        }
    }
    outcome.map_err(Into::into)
}
