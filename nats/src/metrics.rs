//! The metrics of readers of the contract.

use metrics::{counter, gauge};

use crate::wire::unknown::Unknown;

/// Shows a connection to NATS that is not up yet.
pub(crate) fn connecting() {
    gauge!("callpulse_nats_connected").increment(0.0);
    counter!("callpulse_nats_reconnects_total").increment(0);
}

/// Counts a connection in the gauge of those that are up, or takes it out.
pub(crate) fn set_connected(connected: bool) {
    gauge!("callpulse_nats_connected").increment(if connected { 1.0 } else { -1.0 });
}

/// Counts a connection after the first one.
pub(crate) fn reconnected() {
    counter!("callpulse_nats_reconnects_total").increment(1);
}

/// Counts what a service has read and does not know; `type` is `kind`, `field` or `reason`.
pub fn unknown(unknown: Unknown) {
    for (kind, count) in unknown.counts() {
        if count > 0 {
            counter!("callpulse_unknown_total", "type" => kind).increment(count);
        }
    }
}
