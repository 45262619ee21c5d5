//! A call's entry as the scheduler keeps it: there is one for every active call, so its IDs share an allocation.

use std::num::NonZeroU32;

use contract::buckets::billing_active::{BillingEnd, BillingEntry};
use contract::{CallId, Parties, Timestamp, TraceParent};

/// A [`BillingEntry`].
#[derive(Debug, Clone)]
pub(super) struct PackedEntry {
    /// The IDs of the call, the user and the otomo, separated by a character that no ID has.
    ids: Box<str>,
    pub(super) interval_ms: Option<NonZeroU32>,
    pub(super) connected_at: Option<Timestamp>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) end: Option<Box<BillingEnd>>,
    pub(super) traceparent: TraceParent,
}

const SEPARATOR: char = '.';

impl PackedEntry {
    pub(super) fn pack(entry: BillingEntry) -> Self {
        let Parties {
            call_id,
            user_id,
            otomo_id,
        } = entry.parties;
        Self {
            ids: format!("{call_id}{SEPARATOR}{user_id}{SEPARATOR}{otomo_id}").into(),
            interval_ms: entry.interval_ms,
            connected_at: entry.connected_at,
            started_at: entry.started_at,
            end: entry.end,
            traceparent: entry.traceparent,
        }
    }

    /// The call's ID.
    pub(super) fn call(&self) -> &str {
        self.ids.split(SEPARATOR).next().unwrap_or_default()
    }

    #[allow(clippy::expect_used, reason = "packed from valid IDs")]
    pub(super) fn call_id(&self) -> CallId {
        self.call().parse().expect("a valid ID")
    }

    #[allow(clippy::expect_used, reason = "packed from valid IDs")]
    pub(super) fn unpack(&self) -> BillingEntry {
        let mut ids = self.ids.split(SEPARATOR);
        let mut next = || ids.next().expect("three IDs");
        BillingEntry {
            parties: Parties {
                call_id: next().parse().expect("a valid ID"),
                user_id: next().parse().expect("a valid ID"),
                otomo_id: next().parse().expect("a valid ID"),
            },
            connected_at: self.connected_at,
            started_at: self.started_at,
            interval_ms: self.interval_ms,
            end: self.end.clone(),
            traceparent: self.traceparent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::entry;

    #[test]
    fn an_entry_survives_packing() {
        for ended in [None, Some(5)] {
            let entry = entry("c", Some(0), ended);
            let packed = PackedEntry::pack(entry.clone());
            assert_eq!(packed.call_id(), entry.parties.call_id);
            assert_eq!(packed.unpack(), entry);
        }
    }
}
