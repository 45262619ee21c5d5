//! The connection to NATS: it retries from the start, reconnects by itself, and never drops messages silently.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, Event, ServerError, jetstream};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use thiserror::Error;
use tokio::sync::watch;

use crate::jetstream::connection_log::ConnectionLog;
use crate::jetstream::connection_state::ConnectionState;
use crate::jetstream::notice_publisher::NoticePublisher;
use crate::jetstream::server_urls;
use crate::metrics;

/// Address of NATS, and how a service authenticates. The password comes from the service's secret handling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NatsSettings {
    /// URLs of the NATS servers (`nats://host:4222`, `tls://host`), separated by commas. List every server of a cluster: no others
    /// are tried.
    #[serde(deserialize_with = "deserialize_servers")]
    pub url: String,
    /// NATS user. Leave it empty for a server without authentication, and with `nats.nkey_seed_file` or `nats.credentials_file`.
    pub user: String,
    /// File with the seed of an nkey (`SU…`), whose public key (`U…`) the server has as a user.
    pub nkey_seed_file: Option<PathBuf>,
    /// File with the JWT and the seed of a user, as `nsc` writes it, for a server with operators and accounts.
    pub credentials_file: Option<PathBuf>,
    /// File with the certificates, in PEM, of the authorities that sign the servers' certificates. Null trusts the system's
    /// authorities, or those of the variable `SSL_CERT_FILE`. If it is set, the connection must use TLS. It is read again at every
    /// connection.
    pub ca_file: Option<PathBuf>,
    /// File with the client's certificate and its chain, in PEM, for servers that verify clients. Set `nats.key_file`, too.
    pub certificate_file: Option<PathBuf>,
    /// File with the private key of `nats.certificate_file`, in PEM.
    pub key_file: Option<PathBuf>,
    /// Replicas of each stream and bucket: 1 on a single server, 3 or 5 on a cluster.
    #[serde(deserialize_with = "deserialize_replicas")]
    pub replicas: usize,
}

impl Default for NatsSettings {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            user: String::new(),
            nkey_seed_file: None,
            credentials_file: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            replicas: 1,
        }
    }
}

impl NatsSettings {
    /// The servers' hosts and ports, without user and password.
    pub fn hosts(&self) -> String {
        server_urls::hosts(&self.url)
    }
}

fn deserialize_servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    server_urls::parse(&text).map_err(D::Error::custom)?;
    Ok(text)
}

/// An even number of replicas tolerates no more failures than the odd one below it; JetStream has at most 5.
fn deserialize_replicas<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        replicas @ (1 | 3 | 5) => Ok(replicas),
        _ => Err(D::Error::custom("must be 1, 3 or 5")),
    }
}

/// Prefix of JetStream's API for users of its own account.
pub const API_PREFIX: &str = "$JS.API";

/// Errors that a retry does not help. An unreachable server is not an error: the client keeps trying.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Invalid URL.
    #[error("nats.url: {0}")]
    Url(#[from] server_urls::InvalidUrl),
    /// A file of the settings cannot be used: its key and the cause.
    #[error("{0}")]
    Authentication(String),
    /// The client cannot connect.
    #[error("cannot connect to NATS: {0}")]
    Connect(#[from] async_nats::ConnectError),
}

/// Timeout of one connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait between two connection attempts.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);
/// Messages that a subscription buffers before the client drops some (and emits a slow-consumer event).
const SUBSCRIPTION_CAPACITY: usize = 16 * 1024;
/// The client leaves a silent server (frozen, or behind a network that drops packets) after three of these. With
/// [`CONNECT_TIMEOUT`] for another attempt at the same server, a service works with another server within 7 s. An idle
/// connection costs a few bytes a second.
const PING_INTERVAL: Duration = Duration::from_millis(1500);
/// The server's error for a client that did not answer its pings.
const STALE: &str = "Stale Connection";
/// The server's errors for a reply to a request that arrived over an earlier connection: from this account, and from another one.
const LATE_REPLIES: [&str; 2] = [
    "Permissions Violation for Publish to \"_INBOX.",
    "Permissions Violation for Publish to \"_R_.",
];
/// Timeout of one JetStream request, after which it is repeated.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// Publications that await their acknowledgement at a time.
const MAX_ACKS_IN_FLIGHT: usize = 4096;

/// A connection to NATS.
#[derive(Debug, Clone)]
pub struct Nats {
    /// Plain NATS: commands and notices.
    pub client: Client,
    /// JetStream: facts and buckets.
    pub jetstream: jetstream::Context,
    /// Publishes notices to parties.
    pub notice_publisher: NoticePublisher,
    /// Replicas of each stream and bucket.
    pub(crate) replicas: usize,
    state: watch::Receiver<ConnectionState>,
    log: Arc<ConnectionLog>,
}

impl Nats {
    /// Connects in the background and retries without limit; see [`Nats::state`].
    ///
    /// The server's monitoring shows `name`. Without a user in the settings the password is not sent.
    ///
    /// # Errors
    /// [`ConnectError`] if a retry would not help.
    pub async fn connect(settings: &NatsSettings, password: &str, name: &str) -> Result<Self, ConnectError> {
        let servers = server_urls::parse(&settings.url)?;
        metrics::connecting();
        let log = Arc::new(ConnectionLog::default());
        let (attempts, events, connection) = (Arc::clone(&log), Arc::clone(&log), name.to_owned());
        let (sender, state) = watch::channel(ConnectionState::default());
        let options = ConnectOptions::new()
            .name(name)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            // Only the servers in `nats.url` are used. The addresses that a cluster advertises are its own view (not ours behind a
            // NAT or in containers). The client keeps them after a member has moved, and each then costs a connection timeout.
            // A host name is resolved at every attempt.
            .ignore_discovered_servers()
            .reconnect_delay_callback(|attempts| {
                let shift = u32::try_from(attempts.min(6)).unwrap_or(6);
                Duration::from_millis(25 << shift).min(RECONNECT_DELAY_MAX)
            })
            // Before every attempt. Events name the kind of an error only, such as "IO error".
            .reconnect_to_server_callback(move |servers, _| {
                attempts.attempt(&servers);
                async { None }
            })
            .event_callback(move |event| {
                note(&connection, &sender, &events, &event);
                async {}
            });
        let options = settings
            .authenticate(options, password)
            .map_err(ConnectError::Authentication)?;
        let client = options.connect(servers).await?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(ACK_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(MAX_ACKS_IN_FLIGHT)
            .backpressure_on_inflight(true)
            .build(client.clone());
        Ok(Self {
            notice_publisher: NoticePublisher::new(client.clone(), jetstream.clone(), state.clone()),
            client,
            jetstream,
            replicas: settings.replicas,
            state,
            log,
        })
    }

    /// Why the last attempts to connect failed and what to do, if they did.
    pub fn connection_error(&self) -> Option<String> {
        self.log.cause()
    }

    /// Watches the state of the connection.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Calls `report` with the state of the connection now and at every change.
    ///
    /// # Errors
    /// When the client has been dropped, which cannot happen before `self` is.
    pub async fn report_connected(&self, report: impl Fn(bool)) -> Result<(), watch::error::RecvError> {
        let mut state = self.state.clone();
        loop {
            report(state.borrow_and_update().connected);
            state.changed().await?;
        }
    }

    /// Waits until connected, without limit: race it against the stop signal.
    pub async fn connected(&self) {
        let mut state = self.state.clone();
        // The sender belongs to the client, so this fails only when the client has been dropped.
        let _ = state.wait_for(|state| state.connected).await;
    }
}

fn note(connection: &str, state: &watch::Sender<ConnectionState>, log: &ConnectionLog, event: &Event) {
    let is_due = || log.is_due(&event.to_string(), Instant::now());
    match event {
        Event::Connected => {
            log.connected();
            tracing::info!(connection, "connected to NATS");
            state.send_modify(|state| {
                set_connected(state, true);
                if state.connections > 0 {
                    metrics::reconnected();
                }
                state.connections += 1;
            });
        }
        Event::Disconnected | Event::Closed => {
            tracing::warn!(connection, "disconnected from NATS: reconnecting");
            state.send_modify(|state| set_connected(state, false));
        }
        Event::SlowConsumer(subscription) => {
            if is_due() {
                tracing::warn!(subscription, "a subscription was full: a message was dropped");
            }
            state.send_modify(|state| state.overflows += 1);
        }
        // This process or its network paused. The client reconnects.
        Event::ServerError(error) if error.to_string().contains(STALE) => {
            tracing::warn!(%error, "NATS closed the connection of this client as stale")
        }
        // The permission to reply ends with the connection over which the request came. The requester has timed out, too.
        Event::ServerError(error) if is_late_reply(error) => {
            if log.is_due("late replies", Instant::now()) {
                tracing::warn!(%error, "replies came too late");
            }
        }
        // An attempt that failed; its cause is logged before the next one.
        Event::ServerError(ServerError::AuthorizationViolation) => {}
        Event::ServerError(error) if is_due() => tracing::error!(%error, "rejected by NATS: check accounts.conf"),
        Event::ServerError(_) => {}
        Event::ClientError(error) => tracing::debug!(%error, "NATS client error"),
        other => tracing::info!(event = %other, "NATS event"),
    }
}

fn is_late_reply(error: &ServerError) -> bool {
    let error = error.to_string();
    LATE_REPLIES.iter().any(|late| error.contains(late))
}

/// The gauge counts the connections of the process, and an event may repeat.
fn set_connected(state: &mut ConnectionState, connected: bool) {
    if state.connected != connected {
        state.connected = connected;
        metrics::set_connected(connected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_reply_is_told_apart_from_a_missing_right() {
        let violation = |subject: &str| {
            let text = format!("nats: Permissions Violation for Publish to \"{subject}\"");
            is_late_reply(&ServerError::Other(text))
        };
        assert!(violation("_INBOX.abc.1") && violation("_R_.pfkRnn.TzEZ4i"));
        assert!(!violation("call.c.tick") && !violation("$KV.active_calls.call.c"));
    }
}
