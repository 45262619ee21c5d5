use contract::buckets::billing_active::BillingEnd;
use contract::jetstream::bucket::Revised;
use contract::jetstream::fact_store::PublishCondition;
use contract::{CallId, EndReason, Timestamp};

use super::Scheduler;
use crate::domain::call_facts::CallFacts;
use crate::domain::last_tick::LastTick;
use crate::domain::settlement::settle_if_complete;
use crate::domain::terms::{Charge, DefaultTerms};
use crate::domain::work::{DueTicks, LastStored, TickFailure, WorkToken};
use crate::testing::{at, entry, tick};

const TERMS: DefaultTerms = DefaultTerms {
    interval_ms: 1_000,
    charge: Charge::Full,
    max_call_duration_ms: Some(10_000),
};

fn call(name: &str) -> CallId {
    name.parse().unwrap()
}

/// A scheduler with these calls, connected at 0 and without ticks.
fn scheduler(max_batch: usize, calls: &[&str]) -> Scheduler {
    let mut scheduler = Scheduler::new(TERMS, max_batch);
    for name in calls {
        upsert(&mut scheduler, name, Some(0), None, 1);
    }
    read_all(&mut scheduler, at(0));
    scheduler
}

fn upsert(scheduler: &mut Scheduler, name: &str, connected: Option<i64>, ended: Option<i64>, revision: u64) {
    let value = entry(name, connected, ended);
    scheduler.upsert(&call(name), Revised { value, revision }, at(0));
}

fn read_all(scheduler: &mut Scheduler, now: Timestamp) {
    while let Some(token) = scheduler.next_read() {
        scheduler.read_done(&token, LastStored::default(), now);
    }
}

fn batch(scheduler: &mut Scheduler, now: i64) -> Vec<WorkToken> {
    scheduler.wake(at(now));
    let mut batch = scheduler.next_batch(at(now));
    if batch.is_empty() {
        batch = scheduler.next_retry_batch(at(now));
    }
    batch.into_iter().map(|due| due.token).collect()
}

#[test]
fn no_call_is_ticked_before_its_last_stored_messages_are_read() {
    let mut scheduler = Scheduler::new(TERMS, 10);
    upsert(&mut scheduler, "c", Some(0), None, 1);
    assert!(batch(&mut scheduler, 5_000).is_empty());
    let token = scheduler.next_read().unwrap();
    let last = LastTick::new(&tick("c", 3, 0, 3_000));
    scheduler.read_done(
        &token,
        LastStored {
            sequence: 9,
            tick: Some(last),
            ..LastStored::default()
        },
        at(5_000),
    );
    let due = scheduler.next_batch(at(5_000));
    assert_eq!(
        (due[0].ticks[0].minute, due[0].condition),
        (4, PublishCondition::CallUnchangedSince(9))
    );
}

#[test]
fn the_next_wake_is_the_earliest_due_tick() {
    let mut scheduler = scheduler(10, &["a"]);
    upsert(&mut scheduler, "b", Some(-300), None, 1);
    read_all(&mut scheduler, at(0));
    assert_eq!(scheduler.next_wake(), Some(at(700)));
    assert_eq!(batch(&mut scheduler, 699), []);
    assert_eq!(batch(&mut scheduler, 700).len(), 1);
    assert_eq!(scheduler.next_wake(), Some(at(1_000)));
}

#[test]
fn a_failed_read_is_repeated_at_its_retry_time() {
    let mut scheduler = Scheduler::new(TERMS, 10);
    upsert(&mut scheduler, "c", Some(0), None, 1);
    let token = scheduler.next_read().unwrap();
    scheduler.read_failed(&token, at(500));
    scheduler.wake(at(499));
    assert_eq!(scheduler.next_read(), None);
    scheduler.wake(at(500));
    assert_eq!(scheduler.next_read(), Some(token));
}

#[test]
fn a_batch_is_bounded_and_holds_all_missed_minutes_of_a_call() {
    let mut scheduler = scheduler(5, &["a", "b", "c"]);
    scheduler.wake(at(2_500));
    let minutes = |batch: Vec<DueTicks>| -> Vec<Vec<u32>> {
        let calls = batch
            .iter()
            .map(|due| due.ticks.iter().map(|tick| tick.minute).collect());
        calls.collect()
    };
    let first = scheduler.next_batch(at(2_500));
    let second = scheduler.next_batch(at(2_500));
    assert!(second.is_empty(), "every call is in the first batch");
    for (due, sequence) in first.iter().zip([2, 4, 5]) {
        scheduler.ticks_stored(&due.token, sequence, at(2_500));
    }
    assert_eq!(minutes(first), [vec![1, 2], vec![1, 2], vec![1]]);
    // The batch had no room for the second minute of the last call.
    let rest = scheduler.next_batch(at(2_500));
    assert_eq!(rest[0].condition, PublishCondition::CallUnchangedSince(5));
    assert_eq!(minutes(rest), [vec![2]]);
}

#[test]
fn a_call_that_is_always_rejected_is_soon_alone_in_its_batch() {
    let names: Vec<String> = (0..64).map(|number| format!("c{number}")).collect();
    let mut scheduler = scheduler(64, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let bad = call("c7");
    let (mut stored, mut sizes) = (0, Vec::new());
    while stored < 63 {
        let tokens = batch(&mut scheduler, 1_000);
        assert!(
            !tokens.is_empty() && sizes.len() < 100,
            "{stored} stored after {sizes:?}"
        );
        sizes.push(tokens.len());
        if tokens.iter().any(|token| token.call == bad) {
            tokens
                .iter()
                .for_each(|token| scheduler.ticks_failed(token, TickFailure::Rejected, at(1_000)));
            read_all(&mut scheduler, at(1_000));
        } else {
            stored += tokens.len();
            tokens
                .iter()
                .for_each(|token| scheduler.ticks_stored(token, 1, at(1_000)));
        }
    }
    assert_eq!(sizes[0], 64);
    assert_eq!(
        batch(&mut scheduler, 1_000)
            .iter()
            .map(|token| &token.call)
            .collect::<Vec<_>>(),
        [&bad]
    );
}

#[test]
fn unacknowledged_batches_do_not_shrink() {
    let mut scheduler = scheduler(10, &["a", "b", "c"]);
    for _ in 0..5 {
        let tokens = batch(&mut scheduler, 1_000);
        assert_eq!(tokens.len(), 3);
        tokens
            .iter()
            .for_each(|token| scheduler.ticks_failed(token, TickFailure::Unacknowledged, at(1_000)));
        read_all(&mut scheduler, at(1_000));
    }
}

#[test]
fn a_tick_whose_acknowledgement_was_lost_is_confirmed_by_the_next_read() {
    let mut scheduler = scheduler(10, &["c"]);
    let due = scheduler_due(&mut scheduler);
    scheduler.ticks_failed(&due, TickFailure::Unacknowledged, at(1_000));
    let token = scheduler.next_read().unwrap();
    let last = LastTick::new(&tick("c", 1, 0, 1_000));
    let stored = LastStored {
        sequence: 5,
        tick: Some(last),
        ..LastStored::default()
    };
    assert_eq!(
        scheduler.read_done(&token, stored.clone(), at(1_000)).confirmed,
        [tick("c", 1, 0, 1_000)]
    );
    assert_eq!(scheduler.next_wake(), Some(at(2_000)));
}

fn scheduler_due(scheduler: &mut Scheduler) -> WorkToken {
    batch(scheduler, 1_000).remove(0)
}

#[test]
fn no_tick_is_due_beyond_an_end_that_is_stored_and_not_delivered_yet() {
    let mut scheduler = Scheduler::new(TERMS, 10);
    upsert(&mut scheduler, "c", Some(0), None, 1);
    let token = scheduler.next_read().unwrap();
    let end = BillingEnd {
        ended_at: at(2_500),
        reason: EndReason::Hangup,
    };
    let stored = LastStored {
        sequence: 4,
        end: Some(Box::new(end)),
        ..LastStored::default()
    };
    scheduler.read_done(&token, stored, at(9_000));
    // The entry changes, still without the end.
    upsert(&mut scheduler, "c", Some(0), None, 2);
    let due = scheduler.next_batch(at(9_000));
    let minutes: Vec<_> = due.iter().flat_map(|due| &due.ticks).map(|tick| tick.minute).collect();
    assert_eq!(minutes, [1, 2]);
}

#[test]
fn results_for_a_removed_entry_are_ignored() {
    let mut scheduler = scheduler(10, &["c"]);
    let old = scheduler_due(&mut scheduler);
    scheduler.remove(&call("c"));
    upsert(&mut scheduler, "c", Some(0), None, 9);
    scheduler.ticks_stored(&old, 5, at(1_000));
    scheduler.entry_removed(&old, 9);
    assert_eq!(scheduler.len(), 1);
    let new = scheduler.next_read().unwrap();
    scheduler.read_done(&new, LastStored::default(), at(1_000));
    assert_eq!(
        scheduler.next_batch(at(1_000))[0].condition,
        PublishCondition::CallUnchangedSince(0)
    );
    scheduler.clear();
    assert!(scheduler.is_empty() && scheduler.next_wake().is_none() && scheduler.next_batch(at(9_000)).is_empty());
}

#[test]
fn an_end_stops_a_tick_that_is_due_but_not_published() {
    let mut scheduler = scheduler(10, &["c"]);
    scheduler.wake(at(1_000));
    upsert(&mut scheduler, "c", Some(0), Some(999), 2);
    assert!(scheduler.next_batch(at(1_000)).is_empty());
    let settlement = scheduler.next_settlement(at(1_000)).unwrap();
    assert_eq!((settlement.entry.revision, settlement.stored), (2, None));
}

#[test]
fn an_entry_recreated_after_the_settlement_is_removed_again() {
    let mut scheduler = scheduler(10, &[]);
    upsert(&mut scheduler, "c", Some(0), Some(500), 1);
    read_all(&mut scheduler, at(500));
    let settlement = scheduler.next_settlement(at(500)).unwrap();
    // A late delivery creates a new entry after the removal, and the watch skips the removal in between.
    upsert(&mut scheduler, "c", Some(0), None, 3);
    scheduler.entry_removed(&settlement.token, settlement.entry.revision);
    let token = scheduler.next_read().unwrap();
    let settled = settle_if_complete(&settlement.entry.value, &CallFacts::default(), &TERMS, at(500)).unwrap();
    let stored = LastStored {
        sequence: 4,
        settled: Some(Box::new(settled.clone())),
        ..LastStored::default()
    };
    scheduler.read_done(&token, stored, at(500));
    let again = scheduler.next_settlement(at(500)).unwrap();
    assert_eq!((again.stored, again.entry.revision), (Some(Box::new(settled)), 3));
    scheduler.entry_removed(&again.token, 3);
    assert!(scheduler.is_empty());
}

#[test]
fn requests_to_end_a_call_are_repeated_at_growing_intervals_until_it_has_ended() {
    let mut scheduler = scheduler(10, &["c"]);
    assert_eq!(scheduler.next_termination(at(9_999)), None);
    let mut now = at(10_000);
    let mut waits = Vec::new();
    for _ in 0..10 {
        let token = scheduler.next_termination(now).unwrap();
        // A change of the entry during the request causes no second request.
        upsert(&mut scheduler, "c", Some(0), None, 2);
        assert_eq!(scheduler.next_termination(now.plus_millis(1_000_000)), None);
        scheduler.termination_requested(&token, now);
        let wait = (1..).map(|second| second * 1_000).find(|wait| {
            let due = scheduler.deadlines.next().unwrap();
            due <= now.plus_millis(*wait)
        });
        waits.push(wait.unwrap());
        now = now.plus_millis(wait.unwrap());
    }
    assert_eq!(
        waits,
        [
            1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000, 60_000
        ]
    );
    upsert(&mut scheduler, "c", Some(0), Some(11_000), 3);
    assert_eq!(scheduler.next_termination(now.plus_millis(1_000_000)), None);
}

#[test]
fn a_distant_deadline_is_queued_at_the_last_tick_before_it() {
    let terms = DefaultTerms {
        max_call_duration_ms: Some(3_600_500),
        ..TERMS
    };
    let mut scheduler = Scheduler::new(terms, 10);
    upsert(&mut scheduler, "c", Some(0), None, 1);
    let token = scheduler.next_read().unwrap();
    let stored = LastStored {
        sequence: 9,
        tick: Some(LastTick::new(&tick("c", 3_599, 0, 3_599_000))),
        ..LastStored::default()
    };
    scheduler.read_done(&token, stored, at(3_599_000));
    assert_eq!(scheduler.deadlines.next(), None);
    let due = batch(&mut scheduler, 3_600_000);
    scheduler.ticks_stored(&due[0], 10, at(3_600_000));
    assert_eq!(scheduler.next_wake(), Some(at(3_600_500)));
    assert_eq!(scheduler.next_termination(at(3_600_499)), None);
    assert_eq!(scheduler.next_termination(at(3_600_500)), Some(due[0].clone()));
}

#[test]
fn a_call_that_cannot_be_read_or_ticked_has_a_deadline() {
    let mut scheduler = Scheduler::new(
        DefaultTerms {
            max_call_duration_ms: Some(100_000),
            ..TERMS
        },
        10,
    );
    for name in ["odd", "unread"] {
        upsert(&mut scheduler, name, Some(0), None, 1);
    }
    assert_eq!(scheduler.deadlines.next(), None);
    while let Some(token) = scheduler.next_read() {
        if token.call == call("unread") {
            scheduler.read_failed(&token, at(100_001));
            continue;
        }
        let stored = LastStored {
            tick: Some(LastTick::new(&tick("odd", 2, 0, 1_999))),
            ..LastStored::default()
        };
        assert!(scheduler.read_done(&token, stored, at(1)).contradiction.is_some());
    }
    let mut ending = |now| scheduler.next_termination(at(now)).map(|token| token.call);
    assert_eq!(ending(99_999), None);
    assert_eq!(
        [ending(100_000), ending(100_000)],
        [Some(call("odd")), Some(call("unread"))]
    );
}

#[test]
fn an_rtp_detected_stored_during_the_settlement_is_billed() {
    let mut scheduler = Scheduler::new(TERMS, 10);
    upsert(&mut scheduler, "c", None, Some(2_500), 1);
    read_all(&mut scheduler, at(3_000));
    let settlement = scheduler.next_settlement(at(3_000)).unwrap();
    let facts = CallFacts {
        connected_at: Some(at(0)),
        ..CallFacts::default()
    };
    assert_eq!(
        settle_if_complete(&settlement.entry.value, &facts, &TERMS, at(3_000)),
        None
    );
    scheduler.settlement_outdated(&settlement.token, facts, at(3_000));
    assert_eq!(scheduler.next_settlement(at(3_000)), None);
    let due = scheduler.next_batch(at(3_000));
    assert_eq!((due[0].ticks[0].minute, due[0].ticks[0].at), (1, at(1_000)));
}

#[test]
fn a_rejected_call_does_not_delay_the_others() {
    let mut scheduler = scheduler(10, &["bad"]);
    let rejected = batch(&mut scheduler, 1_000);
    scheduler.ticks_failed(&rejected[0], TickFailure::Rejected, at(1_000));
    upsert(&mut scheduler, "good", Some(0), None, 1);
    read_all(&mut scheduler, at(1_000));
    let due = scheduler.next_batch(at(1_000));
    assert_eq!(
        due.iter().map(|due| due.token.call.as_str()).collect::<Vec<_>>(),
        ["good"]
    );
    assert_eq!(scheduler.next_retry_batch(at(1_000))[0].token.call, call("bad"));
}

#[test]
fn a_call_that_is_rejected_alone_is_delayed() {
    let mut scheduler = scheduler(1_000, &["bad"]);
    let (mut now, mut waits) = (1_000, Vec::new());
    for _ in 0..10 {
        let rejected = batch(&mut scheduler, now);
        assert_eq!(rejected.len(), 1);
        scheduler.ticks_failed(&rejected[0], TickFailure::Rejected, at(now));
        let mut wait = 0;
        let token = loop {
            scheduler.wake(at(now + wait));
            match scheduler.next_read() {
                Some(token) => break token,
                None => wait += 1,
            }
            assert!(wait < 1_000, "{waits:?}");
        };
        waits.push(wait);
        now += wait;
        scheduler.read_done(&token, LastStored::default(), at(now));
    }
    assert_eq!(waits, [0, 0, 0, 25, 50, 100, 200, 250, 250, 250]);
}
