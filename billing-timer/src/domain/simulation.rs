//! Schedulers against a simulated stream and bucket with random disturbances: late wake-ups, restarts, two instances at once,
//! batches that are rejected, lost or not acknowledged, facts in any order.

use std::collections::{BTreeMap, HashMap};

use contract::buckets::billing_active::BillingEntry;
use contract::jetstream::bucket::Revised;
use contract::jetstream::fact_store::PublishCondition;
use contract::wire::fact::Settled;
use contract::{CallId, Timestamp};
use proptest::prelude::*;

use super::call_facts::CallFacts;
use super::entry;
use super::last_tick::LastTick;
use super::scheduler::Scheduler;
use super::settlement::settle_if_complete;
use super::terms::{Charge, DefaultTerms, billed_minutes, due};
use super::work::{DueTicks, LastStored, TickFailure, WorkToken};
use crate::testing::{at, ended, rtp_detected};

const TERMS: DefaultTerms = DefaultTerms {
    interval_ms: 1_000,
    charge: Charge::Start,
    max_call_duration_ms: None,
};
const MAX_BATCH: usize = 3;

#[derive(Debug, Clone)]
struct Call {
    id: CallId,
    connected: Option<i64>,
    ended: i64,
}

#[derive(Debug, Clone)]
enum Event {
    Advance(u64),
    Connected(usize),
    Ended(usize),
    /// A redelivered fact whose entry is written after the call was settled.
    Straggler(usize),
    Restart(usize),
    /// An instance performs all its work under these network conditions.
    Work(usize, Network),
}

#[derive(Debug, Clone, Copy)]
enum Network {
    Up,
    /// Batches arrive but are not acknowledged.
    NoAcks,
    /// Nothing arrives.
    Down,
}

/// The server: ticks and settlements with publish conditions, and the bucket.
#[derive(Debug, Default)]
struct Server {
    now: i64,
    sequence: u64,
    ticks: HashMap<CallId, Vec<(LastTick, Timestamp)>>,
    settled: HashMap<CallId, Settled>,
    last_of_call: HashMap<CallId, u64>,
    entries: BTreeMap<CallId, Revised<BillingEntry>>,
}

impl Server {
    fn now(&self) -> Timestamp {
        at(self.now)
    }

    fn upsert(&mut self, call: &CallId, change: impl Fn(Option<BillingEntry>) -> BillingEntry) {
        self.sequence += 1;
        let value = change(self.entries.get(call).map(|entry| entry.value.clone()));
        self.entries.insert(
            call.clone(),
            Revised {
                value,
                revision: self.sequence,
            },
        );
    }

    fn last(&self, call: &CallId) -> Option<LastTick> {
        self.ticks
            .get(call)
            .and_then(|ticks| ticks.last())
            .map(|(last, _)| *last)
    }

    fn last_stored(&self, call: &CallId) -> LastStored {
        LastStored {
            sequence: self.last_of_call(call),
            tick: self.last(call),
            settled: self.settled.get(call).map(|settled| Box::new(settled.clone())),
            // The entry has the end as soon as the simulated stream does.
            end: None,
        }
    }

    fn last_of_call(&self, call: &CallId) -> u64 {
        self.last_of_call.get(call).copied().unwrap_or(0)
    }

    fn admits(&self, due: &DueTicks) -> bool {
        due.condition == PublishCondition::CallUnchangedSince(self.last_of_call(&due.token.call))
    }

    /// Stores all messages or none, and returns the last sequence of each call.
    fn store(&mut self, batch: &[DueTicks]) -> Option<Vec<u64>> {
        if !batch.iter().all(|due| self.admits(due)) {
            return None;
        }
        let now = self.now();
        let store = |due: &DueTicks| {
            let entry = self.entries.get(&due.token.call);
            let is_over = entry.is_some_and(|entry| entry.value.end.is_some());
            for tick in &due.ticks {
                self.sequence += 1;
                let last = LastTick::new(tick);
                // Ends are delivered at any time here. A stored end proves that the minutes before it are full.
                let stored_at = if is_over { now.max(tick.at) } else { now };
                self.ticks
                    .entry(due.token.call.clone())
                    .or_default()
                    .push((last, stored_at));
            }
            self.last_of_call.insert(due.token.call.clone(), self.sequence);
            self.sequence
        };
        Some(batch.iter().map(store).collect())
    }
}

fn restart(server: &Server) -> Scheduler {
    let mut scheduler = Scheduler::new(TERMS, MAX_BATCH);
    for (call, entry) in &server.entries {
        scheduler.upsert(call, entry.clone(), server.now());
    }
    scheduler
}

/// One round: reads, batches and settlements until the instance has no more work.
fn work(server: &mut Server, scheduler: &mut Scheduler, network: Network) {
    let now = server.now();
    scheduler.wake(now);
    let mut lost = 0;
    for round in 0.. {
        assert!(round < 10_000, "does not finish");
        let mut idle = true;
        while let Some(token) = scheduler.next_read() {
            idle = false;
            scheduler.read_done(&token, server.last_stored(&token.call), now);
        }
        let mut batch = scheduler.next_batch(now);
        if batch.is_empty() {
            batch = scheduler.next_retry_batch(now);
        }
        if !batch.is_empty() {
            idle = false;
            let calls: Vec<_> = batch.iter().map(|due| &due.token.call).collect();
            assert!(
                calls.iter().enumerate().all(|(i, call)| !calls[..i].contains(call)),
                "a call twice in a batch"
            );
            assert!(batch.len() == 1 || batch.iter().map(|due| due.ticks.len()).sum::<usize>() <= MAX_BATCH);
            for due in &batch {
                let entry = server.entries.get(&due.token.call);
                let end = entry.and_then(|entry| entry.value.end.as_ref());
                assert!(
                    end.is_none_or(|end| due.ticks.iter().all(|tick| tick.at <= end.ended_at)),
                    "beyond the end in the entry"
                );
            }
            let tokens: Vec<WorkToken> = batch.iter().map(|due| due.token.clone()).collect();
            let answer = if matches!(network, Network::Down) {
                None
            } else {
                Some(server.store(&batch))
            };
            match (answer, network) {
                (Some(Some(sequences)), Network::Up) => {
                    tokens
                        .iter()
                        .zip(sequences)
                        .for_each(|(token, sequence)| scheduler.ticks_stored(token, sequence, now));
                }
                (Some(None), Network::Up) => {
                    tokens
                        .iter()
                        .for_each(|token| scheduler.ticks_failed(token, TickFailure::Rejected, now));
                }
                _ => {
                    tokens
                        .iter()
                        .for_each(|token| scheduler.ticks_failed(token, TickFailure::Unacknowledged, now));
                    lost += 1;
                }
            }
        }
        while let Some(settlement) = scheduler.next_settlement(now) {
            idle = false;
            let call = settlement.token.call.clone();
            let stored = server.last_stored(&call);
            if settlement.stored.is_some() {
                assert_eq!(stored.settled, settlement.stored);
            } else if stored.settled.is_none() {
                let facts = CallFacts {
                    sequence: stored.sequence,
                    tick: stored.tick,
                    ..CallFacts::default()
                };
                let Some(settled) = settle_if_complete(&settlement.entry.value, &facts, &TERMS, now) else {
                    scheduler.settlement_outdated(&settlement.token, facts, now);
                    continue;
                };
                server.sequence += 1;
                server.settled.insert(call.clone(), settled);
                server.last_of_call.insert(call.clone(), server.sequence);
            }
            match server.entries.get(&call) {
                Some(entry) if entry.revision == settlement.entry.revision => {
                    server.entries.remove(&call);
                    scheduler.entry_removed(&settlement.token, settlement.entry.revision);
                }
                Some(entry) => scheduler.entry_conflicted(&settlement.token, entry.clone(), now),
                None => scheduler.entry_removed(&settlement.token, settlement.entry.revision),
            }
        }
        // The network does not change within a round, so a few losses suffice.
        if idle || lost > 3 {
            return;
        }
    }
}

fn check(server: &Server, calls: &[Call], finished: bool) {
    for call in calls {
        let ticks = server.ticks.get(&call.id).map(Vec::as_slice).unwrap_or_default();
        let Some(connected) = call.connected else {
            assert!(ticks.is_empty());
            continue;
        };
        for (index, (last, stored_at)) in ticks.iter().enumerate() {
            let minute = u32::try_from(index + 1).unwrap();
            assert_eq!(last.minute, minute, "a minute is missing or doubled");
            assert_eq!(last.at, due(at(connected), minute, TERMS.interval_ms));
            assert!(*stored_at >= last.at, "a minute is early");
        }
    }
    for call in calls.iter().filter(|_| finished) {
        let ticks = server.ticks.get(&call.id).map_or(0, Vec::len);
        let settled = &server.settled[&call.id];
        let duration = call
            .connected
            .map_or(0, |connected| u64::try_from(call.ended - connected).unwrap_or(0));
        let full = u32::try_from(duration / TERMS.interval_ms).unwrap();
        assert_eq!(settled.connected_at, call.connected.map(at));
        assert_eq!((settled.duration_ms, settled.ticks), (duration, full));
        assert_eq!(
            settled.billed_minutes,
            billed_minutes(TERMS.charge, duration, TERMS.interval_ms)
        );
        assert!(ticks >= full as usize, "a minute was lost");
        assert_eq!(settled.over_ticks as usize, ticks - full as usize);
        assert!(!server.entries.contains_key(&call.id));
    }
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    prop::collection::vec((prop::option::of(0i64..5_000), -500i64..9_000), 1..6).prop_map(|calls| {
        let call = |(index, (connected, lasted)): (usize, (Option<i64>, i64))| Call {
            id: format!("call{index}").parse().unwrap(),
            connected,
            ended: connected.unwrap_or(0) + lasted.max(if connected.is_some() { -500 } else { 0 }),
        };
        calls.into_iter().enumerate().map(call).collect()
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let network = prop_oneof![4 => Just(Network::Up), 1 => Just(Network::NoAcks), 1 => Just(Network::Down)];
    let event = prop_oneof![
        4 => (1u64..3_000).prop_map(Event::Advance),
        3 => (0usize..6).prop_map(Event::Connected),
        2 => (0usize..6).prop_map(Event::Ended),
        1 => (0usize..6).prop_map(Event::Straggler),
        1 => (0usize..2).prop_map(Event::Restart),
        6 => (0usize..2, network).prop_map(|(instance, network)| Event::Work(instance, network)),
    ];
    prop::collection::vec(event, 0..60)
}

/// Delivers a fact. `ended` comes with the stored `connectedAt`, which the consumer looks up.
fn deliver(server: &mut Server, instances: &mut [Scheduler], call: &Call, is_end: bool) {
    match (is_end, call.connected) {
        (true, connected) => {
            let fact = ended(call.id.as_str(), call.ended, connected);
            server.upsert(&call.id, |entry| {
                entry::ended(entry, &fact, fact.connected_at, test_trace())
            });
        }
        (false, Some(connected)) => {
            let fact = rtp_detected(call.id.as_str(), connected);
            server.upsert(&call.id, |entry| entry::connected(entry, &fact, None, test_trace()));
        }
        (false, None) => return,
    }
    if let Some(entry) = server.entries.get(&call.id) {
        let now = server.now();
        instances
            .iter_mut()
            .for_each(|scheduler| scheduler.upsert(&call.id, entry.clone(), now));
    }
}

fn test_trace() -> contract::TraceParent {
    crate::testing::entry("c", None, None).traceparent
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_minute_is_lost_doubled_or_early(calls in calls(), events in events()) {
        let mut server = Server::default();
        let mut instances = [restart(&server), restart(&server)];
        for event in events {
            match event {
                Event::Advance(millis) => server.now += i64::try_from(millis).unwrap(),
                Event::Connected(index) | Event::Ended(index) => {
                    if let Some(call) = calls.get(index).filter(|call| !server.settled.contains_key(&call.id)) {
                        deliver(&mut server, &mut instances, call, matches!(event, Event::Ended(_)));
                    }
                }
                Event::Straggler(index) => {
                    if let Some(call) = calls.get(index).filter(|call| server.settled.contains_key(&call.id)) {
                        deliver(&mut server, &mut instances, call, false);
                    }
                }
                Event::Restart(instance) => instances[instance] = restart(&server),
                Event::Work(instance, network) => work(&mut server, &mut instances[instance], network),
            }
            check(&server, &calls, false);
        }
        for call in &calls {
            for is_end in [false, true] {
                if !server.settled.contains_key(&call.id) {
                    deliver(&mut server, &mut instances, call, is_end);
                }
            }
        }
        server.now += 100_000;
        instances.iter_mut().for_each(|instance| work(&mut server, instance, Network::Up));
        check(&server, &calls, true);
    }
}
