//! The pieces of work that the scheduler hands out, and their results.

use contract::buckets::billing_active::{BillingEnd, BillingEntry};
use contract::jetstream::bucket::Revised;
use contract::jetstream::fact_store::PublishCondition;
use contract::wire::fact::{Settled, Tick};
use contract::{CallId, Timestamp, TraceParent};

use super::last_tick::{Contradiction, LastTick};

/// Identifies work in flight: the call and the key of its entry. A result is ignored if the entry was removed or replaced
/// meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkToken {
    /// The call that the work is for.
    pub call: CallId,
    pub(super) key: CallKey,
}

/// A call of the scheduler: its place, and which of the entries that were there one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CallKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl CallKey {
    /// Before all others.
    pub(super) const MIN: Self = Self {
        index: 0,
        generation: 0,
    };
}

/// The last stored messages of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LastStored {
    /// The sequence of the call's last fact of any kind.
    pub sequence: u64,
    /// The last stored tick.
    pub tick: Option<LastTick>,
    /// The end. The entry of the call may not have it yet.
    pub end: Option<Box<BillingEnd>>,
    /// The settlement. Few active calls have one.
    pub settled: Option<Box<Settled>>,
}

/// The due ticks of one call, to publish in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTicks {
    /// Identifies this work.
    pub token: WorkToken,
    /// The facts, in order.
    pub ticks: Vec<Tick>,
    /// When the first one was due, by the server's clock.
    pub due_at: Timestamp,
    /// The publish condition of the first one. The others follow it directly.
    pub condition: PublishCondition,
    /// The call's trace.
    pub trace: TraceParent,
}

/// A call to settle and to remove from `billing_active`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueSettlement {
    /// Identifies this work.
    pub token: WorkToken,
    /// The call's entry.
    pub entry: Revised<BillingEntry>,
    /// The settlement, if it is stored already: only the entry remains to be removed.
    pub stored: Option<Box<Settled>>,
}

/// What follows from a completed read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadResult {
    /// Ticks that this instance published without an acknowledgement are stored. Their notices are due.
    pub confirmed: Vec<Tick>,
    /// The call gets no more ticks.
    pub contradiction: Option<Contradiction>,
}

/// Why a tick is not known to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickFailure {
    /// The server rejected the batch.
    Rejected,
    /// The server did not answer.
    Unacknowledged,
}
