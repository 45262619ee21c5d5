//! The connection: retried from the start, reconnecting by itself, never dropping silently.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, jetstream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;

use crate::jetstream::connection_state::ConnectionState;
use crate::jetstream::notice_publisher::NoticePublisher;

/// Where NATS is and who we are there. The password comes from the service's own secret handling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NatsSettings {
    /// URLs of the NATS servers, separated by commas. List every server of a cluster: no others are tried.
    pub url: String,
    /// NATS user. Leave it empty for a server without authentication.
    pub user: String,
    /// Replicas of each stream and bucket: 1 on a single server, 3 on a cluster.
    pub replicas: usize,
}

impl Default for NatsSettings {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            user: String::new(),
            replicas: 1,
        }
    }
}

/// Why there is no connection to be had, ever. A server that is merely away is waited for.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The URL is none.
    #[error("nats.url: {0:?} is not a NATS server address: {1}")]
    Url(String, std::io::Error),
    /// The client gave up.
    #[error("cannot connect to NATS: {0}")]
    Connect(#[from] async_nats::ConnectError),
}

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait between two attempts to connect.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);
/// Messages a subscription may hold before the client drops some (and says so as a slow-consumer event).
const SUBSCRIPTION_CAPACITY: usize = 16 * 1024;
/// A server that is silent (frozen, or behind a network that drops packets) is left after three of these: the client gives
/// up when the third ping would be unanswered. With [`CONNECT_TIMEOUT`] for one more try of the same server, a service is
/// at work on another one within 7 s. An idle link costs a few bytes a second.
const PING_INTERVAL: Duration = Duration::from_millis(1500);
/// What a server says to a client that left its pings unanswered.
const STALE: &str = "Stale Connection";
/// What a server says of an answer to a question that came over another connection.
const LATE_ANSWER: &str = "Permissions Violation for Publish to \"_INBOX.";
/// How long JetStream may take to answer one request before it is tried again.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// Publications awaiting their acknowledgement; more wait their turn.
const MAX_ACKS_IN_FLIGHT: usize = 4096;

/// A connection to NATS and what the rest of the crate needs of it.
#[derive(Debug, Clone)]
pub struct Nats {
    /// Plain NATS: commands and notices.
    pub client: Client,
    /// JetStream: facts and buckets.
    pub jetstream: jetstream::Context,
    /// What parties are told.
    pub notice_publisher: NoticePublisher,
    /// Copies of each stream and bucket.
    pub(crate) replicas: usize,
    state: watch::Receiver<ConnectionState>,
}

impl Nats {
    /// Starts connecting, and goes on trying in the background for as long as it takes; see [`Nats::state`].
    ///
    /// `name` is shown by the server's monitoring. Without a user in the settings the password is not sent.
    ///
    /// # Errors
    /// [`ConnectError`] if trying again would not help.
    pub async fn connect(settings: &NatsSettings, password: &str, name: &str) -> Result<Self, ConnectError> {
        let servers = settings
            .url
            .split(',')
            .map(|url| {
                let url = url.trim();
                url.parse::<async_nats::ServerAddr>()
                    .map_err(|error| ConnectError::Url(url.to_owned(), error))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let (sender, state) = watch::channel(ConnectionState::default());
        let mut options = ConnectOptions::new()
            .name(name)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            // `nats.url` says where the servers are, and nobody else: the addresses that a cluster tells of its members are
            // its own view of itself (behind a NAT or in containers not ours), and remain with the client when a member
            // has moved, each costing a connection timeout when every second counts. A name is resolved at every attempt.
            .ignore_discovered_servers()
            .reconnect_delay_callback(|attempts| {
                let shift = u32::try_from(attempts.min(6)).unwrap_or(6);
                Duration::from_millis(25 << shift).min(RECONNECT_DELAY_MAX)
            })
            .event_callback(move |event| {
                note(&sender, &event);
                async {}
            });
        if !settings.user.is_empty() {
            options = options.user_and_password(settings.user.clone(), password.to_owned());
        }
        let client = options.connect(servers).await?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(ACK_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(MAX_ACKS_IN_FLIGHT)
            .backpressure_on_inflight(true)
            .build(client.clone());
        Ok(Self {
            notice_publisher: NoticePublisher::new(client.clone(), state.clone()),
            client,
            jetstream,
            replicas: settings.replicas,
            state,
        })
    }

    /// The state of the connection, to be watched.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Reports whether the connection is up: now, and at every change from now on.
    ///
    /// # Errors
    /// When the client is gone, which it is not before `self` is dropped.
    pub async fn report_connected(&self, report: impl Fn(bool)) -> Result<(), watch::error::RecvError> {
        let mut state = self.state.clone();
        loop {
            report(state.borrow_and_update().connected);
            state.changed().await?;
        }
    }

    /// Waits until connected. Waits forever if the server stays away, so race it against the stop signal.
    pub async fn connected(&self) {
        let mut state = self.state.clone();
        // The sender lives in the client, so this ends early only when the client is gone.
        let _ = state.wait_for(|state| state.connected).await;
    }
}

fn note(state: &watch::Sender<ConnectionState>, event: &Event) {
    match event {
        Event::Connected => {
            tracing::info!("connected to NATS");
            state.send_modify(|state| {
                state.connected = true;
                state.gaps += 1;
            });
        }
        Event::Disconnected | Event::Closed => {
            tracing::warn!("disconnected from NATS, reconnecting");
            state.send_modify(|state| state.connected = false);
        }
        Event::SlowConsumer(subscription) => {
            tracing::warn!(subscription, "a subscription was full and a message dropped");
            state.send_modify(|state| state.overflows += 1);
        }
        // This process stood still, or its network did: the server took it for gone. It connects anew.
        Event::ServerError(error) if error.to_string().contains(STALE) => {
            tracing::warn!(%error, "NATS gave this client up")
        }
        // The right to answer a question goes with the connection over which it came. Whoever asked has given up, too.
        Event::ServerError(error) if error.to_string().contains(LATE_ANSWER) => {
            tracing::warn!(%error, "an answer came too late")
        }
        Event::ServerError(error) => tracing::error!(%error, "NATS refuses"),
        Event::ClientError(error) => tracing::warn!(%error, "NATS client error"),
        other => tracing::info!(event = %other, "NATS event"),
    }
}
