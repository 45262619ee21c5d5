//! The calls of the scheduler in one slab. Queues and timers name a call by its [`CallKey`], so that its IDs are kept once.

use contract::CallId;
use contract::buckets::billing_leases::Partition;
use contract::wire::fact::{Settled, Tick};
use hashbrown::HashTable;
use slab::Slab;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::packed_entry::PackedEntry;
use crate::domain::last_tick::LastTick;
use crate::domain::partition::PartitionSet;
use crate::domain::timer_queue::Timer;
use crate::domain::work::CallKey;

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
    pub(super) generation: u32,
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

impl TrackedCall {
    /// A call whose last stored messages are to be read.
    fn new(generation: u32, entry: PackedEntry, revision: u64) -> Self {
        Self {
            generation,
            entry,
            revision,
            phase: Phase::Reading,
            sequence: 0,
            tick: None,
            settled: None,
            sent: Box::default(),
            rejections: 0,
            termination_requests: 0,
            terminating: false,
            timer: None,
            deadline: None,
        }
    }
}

// See the table of docs/src/testing.md: an instance keeps one for every active call.
const _: () = assert!(size_of::<TrackedCall>() <= 168);

/// Calls by ID. Only pages of the slab that have held calls take memory.
#[derive(Debug, Default)]
pub(super) struct TrackedCalls {
    calls: Slab<TrackedCall>,
    /// Indexes into the slab, by ID.
    by_id: HashTable<u32>,
    hasher: RandomState,
    generations: u32,
}

impl TrackedCalls {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn key(&self, call: &CallId) -> Option<CallKey> {
        let is_it = |index: &u32| id(&self.calls, *index) == call.as_str();
        let position = position(*self.by_id.find(self.hasher.hash_one(call.as_str()), is_it)?);
        Some(key(position, self.calls.get(position)?.generation))
    }

    /// The call, unless its entry was removed or replaced meanwhile.
    pub(super) fn get_mut(&mut self, key: CallKey) -> Option<&mut TrackedCall> {
        let tracked = self.calls.get_mut(position(key.index))?;
        (tracked.generation == key.generation).then_some(tracked)
    }

    /// Adds a call that is not there yet.
    pub(super) fn insert(&mut self, entry: PackedEntry, revision: u64) -> CallKey {
        self.generations = self.generations.wrapping_add(1);
        let hash = self.hasher.hash_one(entry.call());
        let position = self.calls.insert(TrackedCall::new(self.generations, entry, revision));
        let key = key(position, self.generations);
        let (calls, hasher) = (&self.calls, &self.hasher);
        self.by_id
            .insert_unique(hash, key.index, |index| hasher.hash_one(id(calls, *index)));
        key
    }

    pub(super) fn remove(&mut self, key: CallKey) -> Option<TrackedCall> {
        self.get_mut(key)?;
        let hash = self.hasher.hash_one(id(&self.calls, key.index));
        if let Ok(found) = self.by_id.find_entry(hash, |index| *index == key.index) {
            found.remove();
        }
        self.calls.try_remove(position(key.index))
    }

    /// The calls of these partitions.
    pub(super) fn of_partitions(&self, partitions: PartitionSet) -> Vec<CallKey> {
        let calls = self.calls.iter();
        calls
            .filter(|(_, tracked)| partitions.contains(Partition::of(&tracked.entry.call_id())))
            .map(|(position, tracked)| key(position, tracked.generation))
            .collect()
    }

    pub(super) fn clear(&mut self) {
        self.calls.clear();
        self.by_id.clear();
    }
}

fn id(calls: &Slab<TrackedCall>, index: u32) -> &str {
    calls.get(position(index)).map_or("", |tracked| tracked.entry.call())
}

#[allow(clippy::expect_used, reason = "2^32 calls would take half a terabyte")]
fn key(position: usize, generation: u32) -> CallKey {
    CallKey {
        index: position.try_into().expect("fewer than 2^32 calls"),
        generation,
    }
}

fn position(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
