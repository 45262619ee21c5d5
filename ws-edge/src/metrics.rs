//! All metrics of this service. No label contains a call's or a party's identifier: their number is unbounded.

use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge, histogram};

/// A write that takes longer is a stall: the client's buffers are full.
const WRITE_STALL: Duration = Duration::from_millis(100);

/// Creates all series at 0, so that their first event has a rate.
pub fn register() {
    gauge!("callpulse_ws_connections").increment(0.0);
    gauge!("callpulse_ws_handshakes_waiting").increment(0.0);
    gauge!("callpulse_ops_viewers").set(0.0);
    queued_messages().increment(0.0);
    for direction in ["in", "out"] {
        messages(direction).increment(0);
    }
    notices().increment(0);
    counter!("callpulse_ws_rate_limited_total").increment(0);
    counter!("callpulse_ws_write_stalls_total").increment(0);
    counter!("callpulse_ws_self_reports_total").increment(0);
    counter!("callpulse_ws_resyncs_total").increment(0);
    counter!("callpulse_ops_viewers_behind_total").increment(0);
    for reason in ["too_big", "not_utf8"] {
        counter!("callpulse_ws_notices_refused_total", "reason" => reason).increment(0);
    }
    for outcome in ["allowed", "denied", "failed"] {
        counter!("callpulse_ws_wallet_answers_total", "outcome" => outcome).increment(0);
    }
    for kind in ["fact", "bucket", "terminate", "grant"] {
        counter!("callpulse_ws_undecodable_total", "type" => kind).increment(0);
    }
}

/// Counts a handshake in the gauge of those that wait for a permit, until it is dropped.
pub struct HandshakeWaiting;

impl HandshakeWaiting {
    /// One more.
    pub fn count() -> Self {
        gauge!("callpulse_ws_handshakes_waiting").increment(1.0);
        Self
    }
}

impl Drop for HandshakeWaiting {
    fn drop(&mut self) {
        gauge!("callpulse_ws_handshakes_waiting").decrement(1.0);
    }
}

/// Counts a finished handshake; `outcome` is `ok`, `timeout`, `full`, `displaced` or the code of the rejection.
pub fn handshake(outcome: &'static str) {
    counter!("callpulse_ws_handshakes_total", "outcome" => outcome).increment(1);
}

/// Counts a socket in the gauge of open ones.
pub fn socket_opened() {
    gauge!("callpulse_ws_connections").increment(1.0);
}

/// Takes a socket out of the gauge of open ones.
pub fn socket_closed() {
    gauge!("callpulse_ws_connections").decrement(1.0);
}

/// Counts the end of a party's session; `reason` is `client`, `stuck` or the reason of the close frame.
pub fn session_ended(reason: &'static str) {
    counter!("callpulse_ws_closed_total", "reason" => reason).increment(1);
}

/// The counter of messages; `direction` is `in` or `out`.
pub fn messages(direction: &'static str) -> Counter {
    counter!("callpulse_ws_messages_total", "direction" => direction)
}

/// The messages that wait in the send queues of all sockets.
pub fn queued_messages() -> Gauge {
    gauge!("callpulse_ws_queued_messages")
}

/// Counts a message above the rate limit.
pub fn message_rate_limited() {
    counter!("callpulse_ws_rate_limited_total").increment(1);
}

/// Counts a message that is not a request, by the code of its error.
pub fn message_unread(code: &'static str) {
    counter!("callpulse_ws_unread_total", "code" => code).increment(1);
}

/// Counts a client's claim to be connected.
pub fn self_report() {
    counter!("callpulse_ws_self_reports_total").increment(1);
}

/// Counts an answered request; `outcome` is `ok` or the code of the error.
pub fn request_answered(kind: &'static str, outcome: &'static str) {
    counter!("callpulse_ws_requests_total", "type" => kind, "outcome" => outcome).increment(1);
}

/// Records how long a request took, until its answer was ready for the socket.
pub fn request_took(kind: &'static str, took: Duration) {
    histogram!("callpulse_ws_request_seconds", "type" => kind).record(took.as_secs_f64());
}

/// Records a write to a socket. A client that does not read makes it long.
pub fn socket_written(took: Duration) {
    histogram!("callpulse_ws_write_seconds").record(took.as_secs_f64());
    if took > WRITE_STALL {
        counter!("callpulse_ws_write_stalls_total").increment(1);
    }
}

/// The counter of forwarded notices.
pub fn notices() -> Counter {
    counter!("callpulse_ws_notices_total")
}

/// Counts a notice that is not forwarded.
pub fn notice_refused(reason: &'static str) {
    counter!("callpulse_ws_notices_refused_total", "reason" => reason).increment(1);
}

/// Counts a round of snapshots to every connected party.
pub fn resync() {
    counter!("callpulse_ws_resyncs_total").increment(1);
}

/// Counts questions to the wallet; `outcome` is `allowed`, `denied` or `failed` (no usable answer).
pub fn wallet_answered(outcome: &'static str) {
    counter!("callpulse_ws_wallet_answers_total", "outcome" => outcome).increment(1);
}

/// Counts input from NATS that cannot be decoded; `type` is `fact`, `bucket`, `terminate` or `grant`.
pub fn undecodable(kind: &'static str) {
    counter!("callpulse_ws_undecodable_total", "type" => kind).increment(1);
}

/// Counts a request for a page or an asset.
pub fn page_request(status: String) {
    counter!("callpulse_page_requests_total", "status" => status).increment(1);
}

/// Sets the number of viewers of the operations feed.
pub fn set_ops_viewers(count: usize) {
    gauge!("callpulse_ops_viewers").set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
}

/// Counts a viewer that must be resynchronised because it reads too slowly.
pub fn ops_viewer_behind() {
    counter!("callpulse_ops_viewers_behind_total").increment(1);
}
