//! The metrics of readers of the contract.

use metrics::counter;

use crate::wire::unknown::Unknown;

/// Counts what a service has read and does not know; `what` is `kind`, `field` or `reason`.
pub fn unknown(unknown: Unknown) {
    for (what, count) in unknown.counts() {
        if count > 0 {
            counter!("callpulse_unknown_total", "what" => what).increment(count);
        }
    }
}
