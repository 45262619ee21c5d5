//! The keys `limits.*`: what one client, one person and one node may use.

use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::settings::{POSITIVE, out_of_range};

/// The end is far above any read buffer that 10,000 idle sockets can afford.
const READ_BUFFER_BYTES: RangeInclusive<u64> = 512..=1024 * 1024;

/// The keys `limits.*`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Largest number of connections to this node. One more closes the oldest one whose client is not authenticated yet, or is
    /// rejected.
    pub connections: usize,
    /// Largest number of connections of one client address (IPv6: one /64 network) to this node. One more closes the oldest one of
    /// that address whose client is not authenticated yet, or is rejected. Loopback has no limit.
    pub connections_per_address: usize,
    /// Largest number of sockets of one party on this node. One more closes the oldest (4001).
    pub connections_per_party: usize,
    /// Time limit from `accept` to the end of the upgrade, including the wait for the first byte.
    pub handshake_timeout_ms: u64,
    /// Largest number of handshakes that are processed at a time. Further ones wait for their turn, within `handshake_timeout_ms`.
    /// A handshake that waits for its client takes no turn.
    pub handshakes: usize,
    /// The same while calls are live on this node: their notices come first. Raise it where NATS is far away.
    pub handshakes_beside_notices: usize,
    /// Largest message and frame. A larger one closes the socket (1009).
    pub message_bytes: usize,
    /// Read buffer of a socket, allocated while it is open.
    pub read_buffer_bytes: usize,
    /// Send buffer of a socket in the kernel.
    pub send_buffer_bytes: u32,
    /// Largest number of messages queued for a slow client. One more closes its socket (1013).
    pub queued_messages: usize,
    /// Time limit for one write to a socket.
    pub write_timeout_ms: u64,
    /// Time over which the node closes its sockets (1012) when it stops, an equal share at a time, so that clients do not all
    /// connect to other nodes at once. At most half of `drain_timeout_ms`.
    pub close_spread_ms: u64,
    /// Interval of WebSocket pings. A client that is silent for two intervals is disconnected.
    pub ping_interval_ms: u64,
    /// Interval at which clients should send `ping`, so that they notice a dead socket. 0 asks for none.
    pub heartbeat_ms: u64,
    /// Sustained rate of messages of one socket.
    pub messages_per_second: u32,
    /// Burst of messages of one socket above the sustained rate.
    pub message_burst: u32,
    /// Consecutive rejected messages after which the socket is closed (1008).
    pub flood_limit: u32,
    /// Calls that a user may request in a minute, on this node. Further ones are answered with `rate_limited` and `retryAfterMs`.
    pub calls_per_minute_of_user: u32,
    /// Calls that may ring at an otomo in a minute, from this node.
    pub calls_per_minute_to_otomo: u32,
    /// Calls of one user to one otomo in a minute, on this node.
    pub calls_per_minute_of_pair: u32,
    /// Largest number of queued requests of one socket, which are processed one at a time.
    pub pending_requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 1_000,
            connections_per_party: 8,
            handshake_timeout_ms: 10_000,
            handshakes: 256,
            handshakes_beside_notices: 4,
            message_bytes: 64 * 1024,
            read_buffer_bytes: 1024,
            send_buffer_bytes: 64 * 1024,
            queued_messages: 256,
            write_timeout_ms: 10_000,
            close_spread_ms: 5_000,
            ping_interval_ms: 25_000,
            heartbeat_ms: 2_000,
            messages_per_second: 20,
            message_burst: 40,
            flood_limit: 100,
            calls_per_minute_of_user: 30,
            calls_per_minute_to_otomo: 60,
            calls_per_minute_of_pair: 20,
            pending_requests: 16,
        }
    }
}

impl Limits {
    pub(super) fn problems(&self, drain_timeout_ms: u64) -> Vec<String> {
        let ranges = [
            ("connections", POSITIVE),
            ("connections_per_address", POSITIVE),
            ("connections_per_party", POSITIVE),
            ("handshake_timeout_ms", POSITIVE),
            ("handshakes", POSITIVE),
            ("handshakes_beside_notices", POSITIVE),
            ("message_bytes", POSITIVE),
            ("read_buffer_bytes", READ_BUFFER_BYTES),
            ("send_buffer_bytes", POSITIVE),
            ("queued_messages", POSITIVE),
            ("write_timeout_ms", POSITIVE),
            ("ping_interval_ms", POSITIVE),
            ("messages_per_second", POSITIVE),
            ("message_burst", POSITIVE),
            ("calls_per_minute_of_user", POSITIVE),
            ("calls_per_minute_to_otomo", POSITIVE),
            ("calls_per_minute_of_pair", POSITIVE),
            ("flood_limit", POSITIVE),
            ("pending_requests", POSITIVE),
        ];
        let outside = out_of_range(self, &ranges).into_iter();
        let mut wrong: Vec<_> = outside.map(|problem| format!("limits.{problem}")).collect();
        if self.close_spread_ms > drain_timeout_ms / 2 {
            wrong.push("limits.close_spread_ms: must be at most half of drain_timeout_ms".to_owned());
        }
        wrong
    }

    /// `handshake_timeout_ms`
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }

    /// `write_timeout_ms`
    pub fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    /// `close_spread_ms`
    pub fn close_spread(&self) -> Duration {
        Duration::from_millis(self.close_spread_ms)
    }

    /// `ping_interval_ms`
    pub fn ping_interval(&self) -> Duration {
        Duration::from_millis(self.ping_interval_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::problems;

    #[test]
    fn a_limit_of_zero_is_refused() {
        assert_eq!(problems(|settings| settings.limits.connections = 0).len(), 1);
    }
}
