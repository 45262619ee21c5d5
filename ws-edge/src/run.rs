//! The service's start and end.

use std::sync::Arc;
use std::time::Duration;

use contract::buckets::active_calls::ActiveCalls;
use contract::jetstream::storage::Storage;
use contract::{FactStore, Nats, NodeId, Source};
use service::{BoxError, ServiceContext};
use tokio_util::task::TaskTracker;

use crate::calls::deadlines::Deadlines;
use crate::calls::placement::Workers;
use crate::calls::{CallSettings, Calls, terminate};
use crate::connection::registry::ConnectionRegistry;
use crate::connection::{self, resync};
use crate::handshake::Authenticator;
use crate::handshake::token::Tokens;
use crate::http::listener;
use crate::http::pages::Pages;
use crate::ops::{self, OpsFeed};
use crate::settings::Settings;

/// The service's name in facts and on NATS.
const SERVICE: &str = "ws-edge";
/// What generated node names start with.
const NODE_PREFIX: &str = "edge";

/// Runs the service until it is asked to stop, and drained.
///
/// # Errors
/// If a port is taken, the storage differs from what the code needs, or a task ends early.
pub async fn run(settings: Settings, context: ServiceContext) -> Result<(), BoxError> {
    let node_id = match settings.node_id.clone() {
        Some(node_id) => node_id,
        None => NodeId::generate(NODE_PREFIX)?,
    };
    let (nats_up, storage_open) = (context.health.condition("nats"), context.health.condition("streams"));
    let watching = context.health.condition("watches");

    let listener = listener::bind(settings.listen, &settings.limits)?;
    let password = settings.nats_password.expose();
    let nats = Nats::connect(&settings.nats, password, &format!("{SERVICE} {node_id}")).await?;
    context.announce([
        ("ws", listener.local_addr()?.to_string()),
        ("node_id", node_id.to_string()),
    ]);

    let storage = tokio::select! {
        storage = Storage::open_when_available(&nats) => storage?,
        () = context.stop.cancelled() => return Ok(()),
    };
    storage_open.set(true);

    let facts = FactStore::new(&nats, &storage, Source::new(SERVICE, &node_id));
    let tracker = TaskTracker::new();
    let calls = Calls {
        tracker: tracker.clone(),
        nats: nats.clone(),
        active: ActiveCalls::new(&storage, facts.clone()),
        facts,
        workers: Workers::default(),
        settings: CallSettings {
            node_id: node_id.clone(),
            ring_timeout: Duration::from_millis(settings.ring_timeout_ms),
            command_timeout: Duration::from_millis(settings.command_timeout_ms),
            storage_timeout: Duration::from_millis(settings.storage_timeout_ms),
        },
    };
    let limits = settings.limits;
    let registry = ConnectionRegistry::new(nats.client.clone(), limits.connections_per_party, limits.message_bytes);
    let sessions = Arc::new(connection::Deps {
        limits: limits.clone(),
        registry: registry.clone(),
        calls: calls.clone(),
        tracker: tracker.clone(),
    });
    let ops_feed = OpsFeed::new(nats.clone());
    let accept = listener::Deps {
        authenticator: Authenticator::new(Tokens::new(&settings.jwt), settings.allowed_origins),
        pages: settings.pages.then(Pages::built_in),
        limits,
        nats: nats.clone(),
        sessions: Arc::clone(&sessions),
        ops: ops_feed.clone(),
        node_id: node_id.clone(),
        tracker,
    };

    let stop = &context.stop;
    let mut tasks = context.tasks();
    tasks.spawn("listener", listener::serve(listener, Arc::new(accept), stop.clone()));
    tasks.spawn("terminate", terminate::serve(calls.clone(), stop.clone()));
    tasks.spawn("resync", resync::run(sessions, nats.clone(), nats_up, stop.clone()));
    let sockets = move || registry.socket_count();
    tasks.spawn("reports", ops::serve_reports(ops_feed, node_id, sockets, stop.clone()));
    let grace = Duration::from_millis(settings.takeover_grace_ms);
    let deadlines = Deadlines::new(calls, &storage, grace, watching);
    tasks.spawn("deadlines", deadlines.run(stop.clone()));
    let outcome = tasks.join().await;
    if nats.state().borrow().connected {
        // The last answers and notices are still in the client's buffer.
        context.drain("nats", nats.client.flush()).await.transpose()?;
    }
    outcome.map_err(Into::into)
}
