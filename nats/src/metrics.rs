//! The metrics of readers of the contract.

use metrics::{counter, gauge};

use crate::wire::unknown::Unknown;

/// Sets whether the process is connected to NATS.
pub(crate) fn set_connected(connected: bool) {
    gauge!("callpulse_nats_connected").set(if connected { 1.0 } else { 0.0 });
}

/// Counts connections after the first one.
pub(crate) fn reconnected(times: u64) {
    counter!("callpulse_nats_reconnects_total").increment(times);
}

/// Counts what a service has read and does not know; `type` is `kind`, `field` or `reason`.
pub fn unknown(unknown: Unknown) {
    for (kind, count) in unknown.counts() {
        if count > 0 {
            counter!("callpulse_unknown_total", "type" => kind).increment(count);
        }
    }
}
