use std::collections::HashSet;

use contract::jetstream::bucket::Revised;
use contract::jetstream::fact_store::PublishCondition;
use contract::{CallId, Timestamp};

use super::Ledger;
use crate::domain::chain::LastTick;
use crate::domain::terms::{Charge, Terms};
use crate::domain::work::{NotWritten, Position, Ticket};
use crate::testing::{at, entry, tick};

const TERMS: Terms = Terms {
    interval_ms: 1_000,
    charge: Charge::Full,
    max_call_duration_ms: Some(10_000),
};

fn call(name: &str) -> CallId {
    name.parse().unwrap()
}

/// With these calls, connected at 0, and nothing stored of them.
fn ledger(max_batch: usize, calls: &[&str]) -> Ledger {
    let mut ledger = Ledger::new(TERMS, max_batch);
    for name in calls {
        open(&mut ledger, name, Some(0), None, 1);
    }
    read_all(&mut ledger, at(0));
    ledger
}

fn open(ledger: &mut Ledger, name: &str, connected: Option<i64>, ended: Option<i64>, revision: u64) {
    let value = entry(name, connected, ended);
    ledger.open(&call(name), Revised { value, revision }, at(0));
}

fn read_all(ledger: &mut Ledger, now: Timestamp) {
    while let Some(ticket) = ledger.next_read() {
        ledger.read(&ticket, Position::default(), now);
    }
}

fn batch(ledger: &mut Ledger, now: i64) -> Vec<Ticket> {
    ledger.wake(at(now));
    let mut batch = ledger.next_batch(at(now));
    if batch.is_empty() {
        batch = ledger.next_suspects(at(now));
    }
    batch.into_iter().map(|due| due.ticket).collect()
}

#[test]
fn nothing_is_ticked_before_its_position_is_read() {
    let mut ledger = Ledger::new(TERMS, 10);
    open(&mut ledger, "c", Some(0), None, 1);
    assert!(batch(&mut ledger, 5_000).is_empty());
    let ticket = ledger.next_read().unwrap();
    let last = LastTick {
        tick: tick("c", 3, 0, 3_000),
        sequence: 8,
    };
    ledger.read(
        &ticket,
        Position {
            sequence: 9,
            last: Some(last),
            settled: None,
        },
        at(5_000),
    );
    let due = ledger.next_batch(at(5_000));
    assert_eq!(
        (due[0].tick.minute, due[0].guard),
        (4, PublishCondition::CallUnchangedSince(9))
    );
}

#[test]
fn the_earliest_due_is_what_it_wakes_for() {
    let mut ledger = ledger(10, &["a"]);
    open(&mut ledger, "b", Some(-300), None, 1);
    read_all(&mut ledger, at(0));
    assert_eq!(ledger.next_wake(), Some(at(700)));
    assert_eq!(batch(&mut ledger, 699), []);
    assert_eq!(batch(&mut ledger, 700).len(), 1);
    assert_eq!(ledger.next_wake(), Some(at(1_000)));
}

#[test]
fn a_position_that_could_not_be_read_is_read_again_in_time() {
    let mut ledger = Ledger::new(TERMS, 10);
    open(&mut ledger, "c", Some(0), None, 1);
    let ticket = ledger.next_read().unwrap();
    ledger.not_read(&ticket, at(500));
    ledger.wake(at(499));
    assert_eq!(ledger.next_read(), None);
    ledger.wake(at(500));
    assert_eq!(ledger.next_read(), Some(ticket));
}

#[test]
fn a_batch_is_bounded_and_missed_minutes_take_turns() {
    let mut ledger = ledger(2, &["a", "b", "c"]);
    let first = batch(&mut ledger, 2_500);
    let second = batch(&mut ledger, 2_500);
    assert_eq!((first.len(), second.len()), (2, 1));
    for (sequence, ticket) in (1..).zip(first.iter().chain(&second)) {
        ledger.written(ticket, sequence, at(2_500));
    }
    // The second minute of each is due as well.
    let again: HashSet<Ticket> = batch(&mut ledger, 2_500)
        .into_iter()
        .chain(batch(&mut ledger, 2_500))
        .collect();
    assert_eq!(again.len(), 3);
}

#[test]
fn a_call_that_is_always_refused_is_soon_alone() {
    let names: Vec<String> = (0..64).map(|number| format!("c{number}")).collect();
    let mut ledger = ledger(64, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let bad = call("c7");
    let (mut stored, mut sizes) = (0, Vec::new());
    while stored < 63 {
        let tickets = batch(&mut ledger, 1_000);
        assert!(
            !tickets.is_empty() && sizes.len() < 100,
            "{stored} stored after {sizes:?}"
        );
        sizes.push(tickets.len());
        if tickets.iter().any(|ticket| ticket.call == bad) {
            tickets
                .iter()
                .for_each(|ticket| ledger.not_written(ticket, NotWritten::Refused, at(1_000)));
            read_all(&mut ledger, at(1_000));
        } else {
            stored += tickets.len();
            tickets.iter().for_each(|ticket| ledger.written(ticket, 1, at(1_000)));
        }
    }
    assert_eq!(sizes[0], 64);
    assert_eq!(
        batch(&mut ledger, 1_000)
            .iter()
            .map(|ticket| &ticket.call)
            .collect::<Vec<_>>(),
        [&bad]
    );
}

#[test]
fn an_outage_makes_batches_no_smaller() {
    let mut ledger = ledger(10, &["a", "b", "c"]);
    for _ in 0..5 {
        let tickets = batch(&mut ledger, 1_000);
        assert_eq!(tickets.len(), 3);
        tickets
            .iter()
            .for_each(|ticket| ledger.not_written(ticket, NotWritten::Unanswered, at(1_000)));
        read_all(&mut ledger, at(1_000));
    }
}

#[test]
fn a_tick_whose_acknowledgement_was_lost_is_told_when_it_is_found() {
    let mut ledger = ledger(10, &["c"]);
    let due = ledger_due(&mut ledger);
    ledger.not_written(&due, NotWritten::Unanswered, at(1_000));
    let ticket = ledger.next_read().unwrap();
    let last = LastTick {
        tick: tick("c", 1, 0, 1_000),
        sequence: 5,
    };
    let position = Position {
        sequence: last.sequence,
        last: Some(last),
        settled: None,
    };
    assert_eq!(
        ledger.read(&ticket, position.clone(), at(1_000)).confirmed,
        Some(tick("c", 1, 0, 1_000))
    );
    assert_eq!(ledger.next_wake(), Some(at(2_000)));
}

fn ledger_due(ledger: &mut Ledger) -> Ticket {
    batch(ledger, 1_000).remove(0)
}

#[test]
fn what_comes_back_for_a_call_that_left_the_book_counts_for_nothing() {
    let mut ledger = ledger(10, &["c"]);
    let old = ledger_due(&mut ledger);
    ledger.close(&call("c"));
    open(&mut ledger, "c", Some(0), None, 9);
    ledger.written(&old, 5, at(1_000));
    ledger.closed(&old, 9);
    assert_eq!(ledger.len(), 1);
    let new = ledger.next_read().unwrap();
    ledger.read(&new, Position::default(), at(1_000));
    assert_eq!(
        ledger.next_batch(at(1_000))[0].guard,
        PublishCondition::CallUnchangedSince(0)
    );
    ledger.forget();
    assert!(ledger.is_empty() && ledger.next_wake().is_none() && ledger.next_batch(at(9_000)).is_empty());
}

#[test]
fn an_end_that_becomes_known_while_a_tick_is_due_stops_it() {
    let mut ledger = ledger(10, &["c"]);
    ledger.wake(at(1_000));
    open(&mut ledger, "c", Some(0), Some(999), 2);
    assert!(ledger.next_batch(at(1_000)).is_empty());
    let closing = ledger.next_closing(at(1_000)).unwrap();
    assert_eq!((closing.settled.ticks, closing.revision, closing.stored), (0, 2, false));
}

#[test]
fn a_settled_call_that_was_entered_again_is_taken_off_again() {
    let mut ledger = ledger(10, &[]);
    open(&mut ledger, "c", Some(0), Some(500), 1);
    read_all(&mut ledger, at(500));
    let closing = ledger.next_closing(at(500)).unwrap();
    // A late delivery writes a new entry after the removal; its removal in between is never seen by the watcher.
    open(&mut ledger, "c", Some(0), None, 3);
    ledger.closed(&closing.ticket, closing.revision);
    let ticket = ledger.next_read().unwrap();
    let settled = Some(closing.settled.clone());
    let position = Position {
        sequence: 4,
        last: None,
        settled,
    };
    ledger.read(&ticket, position, at(500));
    let again = ledger.next_closing(at(500)).unwrap();
    assert_eq!((again.stored, again.revision), (true, 3));
    assert_eq!(again.settled, closing.settled);
    ledger.closed(&again.ticket, 3);
    assert!(ledger.is_empty());
}

#[test]
fn a_call_is_asked_to_end_ever_more_rarely_until_it_has_ended() {
    let mut ledger = ledger(10, &["c"]);
    assert_eq!(ledger.next_overdue(at(9_999)), None);
    let mut now = at(10_000);
    let mut waits = Vec::new();
    for _ in 0..10 {
        let ticket = ledger.next_overdue(now).unwrap();
        // News of the call while it is being asked are no reason to ask twice.
        open(&mut ledger, "c", Some(0), None, 2);
        assert_eq!(ledger.next_overdue(now.plus_millis(1_000_000)), None);
        ledger.asked_to_end(&ticket, now);
        let wait = (1..).map(|second| second * 1_000).find(|wait| {
            let due = ledger.deadlines.next().unwrap();
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
    open(&mut ledger, "c", Some(0), Some(11_000), 3);
    assert_eq!(ledger.next_overdue(now.plus_millis(1_000_000)), None);
}

#[test]
fn a_beginning_that_was_stored_as_the_call_was_to_be_settled_is_billed() {
    let mut ledger = Ledger::new(TERMS, 10);
    open(&mut ledger, "c", None, Some(2_500), 1);
    read_all(&mut ledger, at(3_000));
    let closing = ledger.next_closing(at(3_000)).unwrap();
    assert_eq!(closing.settled.connected_at, None);
    ledger.outdated(&closing.ticket, Some(at(0)), Position::default(), at(3_000));
    assert_eq!(ledger.next_closing(at(3_000)), None);
    let due = ledger.next_batch(at(3_000));
    assert_eq!((due[0].tick.minute, due[0].tick.at), (1, at(1_000)));
}

#[test]
fn a_tick_that_another_owner_stored_as_the_call_was_to_be_settled_is_told_of() {
    let mut ledger = Ledger::new(TERMS, 10);
    open(&mut ledger, "c", Some(0), Some(500), 1);
    read_all(&mut ledger, at(3_000));
    let closing = ledger.next_closing(at(3_000)).unwrap();
    assert_eq!((closing.settled.over_ticks, closing.last), (0, None));
    let last = LastTick {
        tick: tick("c", 1, 0, 1_000),
        sequence: 9,
    };
    let position = Position {
        sequence: last.sequence,
        last: Some(last),
        settled: None,
    };
    ledger.outdated(&closing.ticket, Some(at(0)), position, at(3_000));
    let closing = ledger.next_closing(at(3_000)).unwrap();
    assert_eq!((closing.settled.over_ticks, closing.last), (1, Some(9)));
}

#[test]
fn a_refused_call_does_not_hold_up_the_others() {
    let mut ledger = ledger(10, &["bad"]);
    let refused = batch(&mut ledger, 1_000);
    ledger.not_written(&refused[0], NotWritten::Refused, at(1_000));
    open(&mut ledger, "good", Some(0), None, 1);
    read_all(&mut ledger, at(1_000));
    let due = ledger.next_batch(at(1_000));
    assert_eq!(
        due.iter().map(|due| due.ticket.call.as_str()).collect::<Vec<_>>(),
        ["good"]
    );
    assert_eq!(ledger.next_suspects(at(1_000))[0].ticket.call, call("bad"));
}

#[test]
fn a_call_that_is_refused_alone_waits_a_little_and_no_other_does() {
    let mut ledger = ledger(1_000, &["bad"]);
    let (mut now, mut waits) = (1_000, Vec::new());
    for _ in 0..10 {
        let refused = batch(&mut ledger, now);
        assert_eq!(refused.len(), 1);
        ledger.not_written(&refused[0], NotWritten::Refused, at(now));
        let mut wait = 0;
        let ticket = loop {
            ledger.wake(at(now + wait));
            match ledger.next_read() {
                Some(ticket) => break ticket,
                None => wait += 1,
            }
            assert!(wait < 1_000, "{waits:?}");
        };
        waits.push(wait);
        now += wait;
        ledger.read(&ticket, Position::default(), at(now));
    }
    assert_eq!(waits, [0, 0, 0, 25, 50, 100, 200, 250, 250, 250]);
}
