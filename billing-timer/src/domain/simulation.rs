//! Ledgers against a simulated stream and book, under every disturbance at random: late wake-ups, restarts, two instances
//! at once, refused, lost and half-heard batches, facts in any order.

use std::collections::{BTreeMap, HashMap};

use contract::buckets::billing_index::BillingEntry;
use contract::jetstream::bucket::Revised;
use contract::jetstream::fact_store::PublishCondition;
use contract::wire::fact::{Settled, Tick};
use contract::{CallId, Timestamp};
use proptest::prelude::*;

use super::chain::LastTick;
use super::entry;
use super::ledger::Ledger;
use super::terms::{Charge, Terms, due};
use super::work::{NotWritten, Position, Ticket};
use crate::testing::{at, ended, rtp_detected};

const TERMS: Terms = Terms {
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
    /// A fact delivered twice, the second time so slowly that the call was settled between the look and the entry.
    Straggler(usize),
    Restart(usize),
    /// Everything that an instance has to do, with what becomes of its batches.
    Work(usize, Network),
}

#[derive(Debug, Clone, Copy)]
enum Network {
    Up,
    /// Batches arrive, their acknowledgements do not.
    Deaf,
    /// Nothing arrives.
    Down,
}

/// The server: guarded ticks and settlements, and the book.
#[derive(Debug, Default)]
struct World {
    now: i64,
    sequence: u64,
    ticks: HashMap<CallId, Vec<(LastTick, Timestamp)>>,
    settled: HashMap<CallId, (Settled, u64)>,
    book: BTreeMap<CallId, Revised<BillingEntry>>,
}

impl World {
    fn now(&self) -> Timestamp {
        at(self.now)
    }

    fn upsert(&mut self, call: &CallId, change: impl Fn(Option<BillingEntry>) -> BillingEntry) {
        self.sequence += 1;
        let value = change(self.book.get(call).map(|entry| entry.value.clone()));
        self.book.insert(
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
            .map(|(last, _)| last.clone())
    }

    fn position(&self, call: &CallId) -> Position {
        Position {
            sequence: self.last_of_call(call),
            last: self.last(call),
            settled: self.settled.get(call).map(|(settled, _)| settled.clone()),
        }
    }

    fn last_of_call(&self, call: &CallId) -> u64 {
        let last = self.last(call).map_or(0, |last| last.sequence);
        last.max(self.settled.get(call).map_or(0, |(_, sequence)| *sequence))
    }

    fn admits(&self, tick: &Tick, guard: PublishCondition) -> bool {
        guard == PublishCondition::CallUnchangedSince(self.last_of_call(&tick.parties.call_id))
    }

    /// All or nothing.
    fn store(&mut self, batch: &[(Tick, PublishCondition)]) -> Option<Vec<u64>> {
        if !batch.iter().all(|(tick, guard)| self.admits(tick, *guard)) {
            return None;
        }
        let now = self.now();
        let store = |(tick, _): &(Tick, PublishCondition)| {
            self.sequence += 1;
            let last = LastTick {
                tick: tick.clone(),
                sequence: self.sequence,
            };
            self.ticks
                .entry(tick.parties.call_id.clone())
                .or_default()
                .push((last, now));
            self.sequence
        };
        Some(batch.iter().map(store).collect())
    }
}

fn restart(world: &World) -> Ledger {
    let mut ledger = Ledger::new(TERMS, MAX_BATCH);
    for (call, entry) in &world.book {
        ledger.open(call, entry.clone(), world.now());
    }
    ledger
}

/// One round: reads, batches and settlements until the instance has nothing more to do.
fn work(world: &mut World, ledger: &mut Ledger, network: Network) {
    let now = world.now();
    ledger.wake(now);
    let mut lost = 0;
    for round in 0.. {
        assert!(round < 10_000, "busy without end");
        let mut idle = true;
        while let Some(ticket) = ledger.next_read() {
            idle = false;
            ledger.read(&ticket, world.position(&ticket.call), now);
        }
        let mut batch = ledger.next_batch(now);
        if batch.is_empty() {
            batch = ledger.next_suspects(now);
        }
        if !batch.is_empty() {
            idle = false;
            let calls: Vec<_> = batch.iter().map(|due| &due.tick.parties.call_id).collect();
            assert!(
                calls.iter().enumerate().all(|(i, call)| !calls[..i].contains(call)),
                "two ticks of a call in a batch"
            );
            assert!(batch.len() <= MAX_BATCH);
            let entries: Vec<_> = batch.iter().map(|due| (due.tick.clone(), due.guard)).collect();
            for (tick, _) in &entries {
                let entry = world.book.get(&tick.parties.call_id);
                let end = entry.and_then(|entry| entry.value.end.as_ref());
                assert!(
                    end.is_none_or(|end| tick.at <= end.ended_at),
                    "beyond an end that is on the book"
                );
            }
            let tickets: Vec<Ticket> = batch.into_iter().map(|due| due.ticket).collect();
            let answer = if matches!(network, Network::Down) {
                None
            } else {
                Some(world.store(&entries))
            };
            match (answer, network) {
                (Some(Some(sequences)), Network::Up) => {
                    tickets
                        .iter()
                        .zip(sequences)
                        .for_each(|(ticket, sequence)| ledger.written(ticket, sequence, now));
                }
                (Some(None), Network::Up) => {
                    tickets
                        .iter()
                        .for_each(|ticket| ledger.not_written(ticket, NotWritten::Refused, now));
                }
                _ => {
                    tickets
                        .iter()
                        .for_each(|ticket| ledger.not_written(ticket, NotWritten::Unanswered, now));
                    lost += 1;
                }
            }
        }
        while let Some(closing) = ledger.next_closing(now) {
            idle = false;
            let call = closing.ticket.call.clone();
            let position = world.position(&call);
            if closing.stored {
                assert_eq!(position.settled, Some(closing.settled));
            } else if position.settled.is_some() || position.last.as_ref().map(|last| last.sequence) != closing.last {
                ledger.outdated(&closing.ticket, None, position, now);
                continue;
            } else {
                world.sequence += 1;
                world.settled.insert(call.clone(), (closing.settled, world.sequence));
            }
            match world.book.get(&call) {
                Some(entry) if entry.revision == closing.revision => {
                    world.book.remove(&call);
                    ledger.closed(&closing.ticket, closing.revision);
                }
                Some(entry) => ledger.changed(&closing.ticket, entry.clone(), now),
                None => ledger.closed(&closing.ticket, closing.revision),
            }
        }
        // The network stays as it is in this round: a few losses are as good as many.
        if idle || lost > 3 {
            return;
        }
    }
}

fn check(world: &World, calls: &[Call], finished: bool) {
    for call in calls {
        let ticks = world.ticks.get(&call.id).map(Vec::as_slice).unwrap_or_default();
        let Some(connected) = call.connected else {
            assert!(ticks.is_empty());
            continue;
        };
        for (index, (last, stored_at)) in ticks.iter().enumerate() {
            let minute = u32::try_from(index + 1).unwrap();
            assert_eq!(last.tick.minute, minute, "a minute is missing or doubled");
            assert_eq!(last.tick.at, due(at(connected), minute, TERMS.interval_ms));
            assert!(*stored_at >= last.tick.at, "a minute is early");
        }
    }
    for call in calls.iter().filter(|_| finished) {
        let ticks = world.ticks.get(&call.id).map_or(0, Vec::len);
        let (settled, _) = &world.settled[&call.id];
        let duration = call
            .connected
            .map_or(0, |connected| u64::try_from(call.ended - connected).unwrap_or(0));
        let full = u32::try_from(duration / TERMS.interval_ms).unwrap();
        assert_eq!(settled.connected_at, call.connected.map(at));
        assert_eq!((settled.duration_ms, settled.ticks), (duration, full));
        assert_eq!(
            settled.billed_minutes,
            TERMS.charge.minutes(duration, TERMS.interval_ms)
        );
        assert!(ticks >= full as usize, "a minute was lost");
        assert_eq!(settled.over_ticks as usize, ticks - full as usize);
        assert!(!world.book.contains_key(&call.id));
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
    let network = prop_oneof![4 => Just(Network::Up), 1 => Just(Network::Deaf), 1 => Just(Network::Down)];
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

/// What a delivery does: `ended` comes with what is stored of the beginning, as the intake looks it up.
fn deliver(world: &mut World, instances: &mut [Ledger], call: &Call, is_end: bool) {
    match (is_end, call.connected) {
        (true, connected) => {
            let fact = ended(call.id.as_str(), call.ended, connected);
            world.upsert(&call.id, |entry| {
                entry::ended(entry, &fact, fact.connected_at, test_trace())
            });
        }
        (false, Some(connected)) => {
            let fact = rtp_detected(call.id.as_str(), connected);
            world.upsert(&call.id, |entry| entry::connected(entry, &fact, test_trace()));
        }
        (false, None) => return,
    }
    if let Some(entry) = world.book.get(&call.id) {
        let now = world.now();
        instances
            .iter_mut()
            .for_each(|ledger| ledger.open(&call.id, entry.clone(), now));
    }
}

fn test_trace() -> contract::TraceParent {
    crate::testing::entry("c", None, None).traceparent
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_minute_is_lost_doubled_or_early(calls in calls(), events in events()) {
        let mut world = World::default();
        let mut instances = [restart(&world), restart(&world)];
        for event in events {
            match event {
                Event::Advance(millis) => world.now += i64::try_from(millis).unwrap(),
                Event::Connected(index) | Event::Ended(index) => {
                    if let Some(call) = calls.get(index).filter(|call| !world.settled.contains_key(&call.id)) {
                        deliver(&mut world, &mut instances, call, matches!(event, Event::Ended(_)));
                    }
                }
                Event::Straggler(index) => {
                    if let Some(call) = calls.get(index).filter(|call| world.settled.contains_key(&call.id)) {
                        deliver(&mut world, &mut instances, call, false);
                    }
                }
                Event::Restart(instance) => instances[instance] = restart(&world),
                Event::Work(instance, network) => work(&mut world, &mut instances[instance], network),
            }
            check(&world, &calls, false);
        }
        for call in &calls {
            for is_end in [false, true] {
                if !world.settled.contains_key(&call.id) {
                    deliver(&mut world, &mut instances, call, is_end);
                }
            }
        }
        world.now += 100_000;
        instances.iter_mut().for_each(|instance| work(&mut world, instance, Network::Up));
        check(&world, &calls, true);
    }
}
