//! The calls of the scheduler, by partition.

use std::collections::HashMap;

use contract::CallId;
use contract::buckets::billing_leases::{PARTITIONS, Partition};
use contract::wire::fact::{Settled, Tick};

use super::packed_entry::PackedEntry;
use crate::domain::last_tick::LastTick;
use crate::domain::timer_queue::Timer;
use crate::domain::work::WorkToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its last stored messages are being read, or wait to be read.
    Reading,
    /// It waits for its next tick's time, or for a change of its entry.
    Waiting,
    /// Its next tick is due.
    Due,
    /// Its due ticks are being published.
    Publishing,
    /// It is being settled, or waits to be settled.
    Settling,
}

#[derive(Debug)]
pub(super) struct TrackedCall {
    pub(super) generation: u64,
    pub(super) entry: PackedEntry,
    pub(super) revision: u64,
    pub(super) phase: Phase,
    /// The sequence of its last fact of any kind.
    pub(super) sequence: u64,
    pub(super) tick: Option<LastTick>,
    pub(super) settled: Option<Box<Settled>>,
    /// Ticks that were published and are not known to be stored.
    pub(super) sent: Box<[Tick]>,
    pub(super) rejections: u16,
    pub(super) termination_requests: u16,
    pub(super) terminating: bool,
    /// When the next tick is due, or a read is to be repeated.
    pub(super) timer: Timer,
    /// When the end is to be requested (again), if that is near.
    pub(super) deadline: Timer,
}

// An allocation of 192 bytes. See the table of docs/src/testing.md: an instance keeps one for every active call.
const _: () = assert!(size_of::<TrackedCall>() <= 184);

/// Calls by partition. Boxed, because a growing table holds more places than calls.
#[derive(Debug)]
pub(super) struct TrackedCalls {
    partitions: Vec<HashMap<CallId, Box<TrackedCall>>>,
}

impl Default for TrackedCalls {
    fn default() -> Self {
        Self {
            partitions: (0..PARTITIONS).map(|_| HashMap::new()).collect(),
        }
    }
}

impl TrackedCalls {
    pub(super) fn len(&self) -> usize {
        self.partitions.iter().map(HashMap::len).sum()
    }

    pub(super) fn get_mut(&mut self, call: &CallId) -> Option<&mut TrackedCall> {
        let calls = self.partitions.get_mut(index(Partition::of(call)))?;
        calls.get_mut(call).map(Box::as_mut)
    }

    /// The call of this work, unless its entry was removed or replaced meanwhile.
    pub(super) fn of(&mut self, token: &WorkToken) -> Option<&mut TrackedCall> {
        let tracked = self.get_mut(&token.call)?;
        (tracked.generation == token.generation).then_some(tracked)
    }

    pub(super) fn insert(&mut self, call: CallId, tracked: TrackedCall) {
        if let Some(calls) = self.partitions.get_mut(index(Partition::of(&call))) {
            calls.insert(call, Box::new(tracked));
        }
    }

    pub(super) fn remove(&mut self, call: &CallId) -> Option<Box<TrackedCall>> {
        self.partitions.get_mut(index(Partition::of(call)))?.remove(call)
    }

    /// Removes all calls of a partition.
    pub(super) fn take(&mut self, partition: Partition) -> HashMap<CallId, Box<TrackedCall>> {
        let calls = self.partitions.get_mut(index(partition));
        calls.map(std::mem::take).unwrap_or_default()
    }
}

fn index(partition: Partition) -> usize {
    usize::from(partition.number())
}
