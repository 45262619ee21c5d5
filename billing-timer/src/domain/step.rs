//! The next step of one call.

use contract::Timestamp;
use contract::buckets::billing_active::BillingEntry;
use contract::wire::fact::Tick;

use super::last_tick::{self, Contradiction, LastTick};
use super::terms::{DefaultTerms, due};

/// The next step of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Publish this tick, which is due.
    Tick(Tick),
    /// Wait until this time.
    Wait(Timestamp),
    /// Settle: the call is over and all its ticks are stored.
    Settle,
    /// Nothing until the entry changes.
    Idle,
}

/// Decides from the call's entry, its last stored tick, and the time by the server's clock.
///
/// The times in a call's facts are those of its media-worker, whose clock may be off. A tick is due as long after
/// [`started_at`](BillingEntry::started_at) as its `at` is after `connectedAt`. Once the call has ended, all minutes up to its end have
/// passed, and nothing is waited for. A call whose stored ticks contradict its entry gets no more ticks, but it is settled.
pub fn step(entry: &BillingEntry, last: Option<&LastTick>, terms: &DefaultTerms, now: Timestamp) -> Step {
    let next = connected_at(entry, last).and_then(|connected_at| {
        let interval_ms = last_tick::interval_ms(last, connected_at, interval_ms(entry, terms)).ok()?;
        next_tick(entry, last, connected_at, interval_ms)
    });
    match (next, &entry.end) {
        (Some(tick), Some(end)) if tick.at <= end.ended_at => Step::Tick(tick),
        (_, Some(_)) => Step::Settle,
        (Some(tick), None) => match on_server(entry, tick.at) {
            due if due <= now => Step::Tick(tick),
            due => Step::Wait(due),
        },
        (None, None) => Step::Idle,
    }
}

/// A time of a call's facts by the server's clock.
pub fn on_server(entry: &BillingEntry, at: Timestamp) -> Timestamp {
    let (Some(connected_at), Some(started_at)) = (entry.connected_at, entry.started_at) else {
        return at;
    };
    let behind_ms = started_at.as_millis() - connected_at.as_millis();
    Timestamp::from_millis(at.as_millis().saturating_add(behind_ms)).unwrap_or(at)
}

/// The ticks that are due, in order, at most `max`.
pub fn due_ticks(
    entry: &BillingEntry,
    last: Option<&LastTick>,
    terms: &DefaultTerms,
    now: Timestamp,
    max: usize,
) -> Vec<Tick> {
    let (mut last, mut ticks) = (last.copied(), Vec::new());
    while ticks.len() < max
        && let Step::Tick(tick) = step(entry, last.as_ref(), terms, now)
    {
        // As if it were stored.
        last = Some(LastTick::new(&tick));
        ticks.push(tick);
    }
    ticks
}

/// The reason why a connected call gets no more ticks, if any.
pub fn contradiction(entry: &BillingEntry, last: Option<&LastTick>, terms: &DefaultTerms) -> Option<Contradiction> {
    let connected_at = connected_at(entry, last)?;
    last_tick::interval_ms(last, connected_at, interval_ms(entry, terms)).err()
}

/// The interval of a call without ticks.
fn interval_ms(entry: &BillingEntry, terms: &DefaultTerms) -> u64 {
    entry
        .interval_ms
        .map_or(terms.interval_ms, |interval| interval.get().into())
}

/// When the call reaches its maximum duration, if it is connected and has not ended.
pub fn deadline(entry: &BillingEntry, terms: &DefaultTerms) -> Option<Timestamp> {
    match (entry.connected_at, &entry.end, terms.max_call_duration_ms) {
        (Some(connected_at), None, Some(max)) => Some(on_server(entry, connected_at.plus_millis(max))),
        _ => None,
    }
}

/// Falls back to the last tick if the entry has no `connectedAt`.
fn connected_at(entry: &BillingEntry, last: Option<&LastTick>) -> Option<Timestamp> {
    entry.connected_at.or_else(|| last.map(|last| last.connected_at))
}

fn next_tick(entry: &BillingEntry, last: Option<&LastTick>, connected_at: Timestamp, interval_ms: u64) -> Option<Tick> {
    let minute = last_tick::next_minute(last);
    // The number has saturated: there is no next tick.
    if last.is_some_and(|last| last.minute == minute) {
        return None;
    }
    let at = due(connected_at, minute, interval_ms);
    Some(Tick {
        parties: entry.parties.clone(),
        minute,
        at,
        connected_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::terms::Charge;
    use crate::testing::{at, entry, tick};

    const TERMS: DefaultTerms = DefaultTerms {
        interval_ms: 60_000,
        charge: Charge::Full,
        max_call_duration_ms: Some(300_000),
    };

    fn last(minute: u32) -> LastTick {
        LastTick::new(&tick("c", minute, 0, i64::from(minute) * 60_000))
    }

    #[test]
    fn ticks_are_due_at_whole_intervals_and_not_a_millisecond_before() {
        let call = entry("c", Some(0), None);
        assert_eq!(step(&call, None, &TERMS, at(59_999)), Step::Wait(at(60_000)));
        assert_eq!(
            step(&call, None, &TERMS, at(60_000)),
            Step::Tick(tick("c", 1, 0, 60_000))
        );
        // A late wake-up still yields the next tick, with the time at which it was due.
        assert_eq!(
            step(&call, Some(&last(1)), &TERMS, at(500_000)),
            Step::Tick(tick("c", 2, 0, 120_000))
        );
    }

    #[test]
    fn missed_ticks_are_due_together_but_none_beyond_the_end() {
        let minutes = |ended, now, max| -> Vec<u32> {
            let ticks = due_ticks(&entry("c", Some(0), ended), Some(&last(1)), &TERMS, at(now), max);
            ticks.iter().map(|tick| tick.minute).collect()
        };
        assert!(minutes(None, 119_999, 9).is_empty());
        assert_eq!(minutes(None, 250_000, 9), [2, 3, 4]);
        assert_eq!(minutes(None, 250_000, 2), [2, 3]);
        assert_eq!(minutes(Some(180_000), 250_000, 9), [2, 3]);
    }

    #[test]
    fn a_tick_due_exactly_at_the_end_is_published_and_a_later_one_is_not() {
        let Step::Tick(second) = step(&entry("c", Some(0), Some(120_000)), Some(&last(1)), &TERMS, at(500_000)) else {
            panic!("the second minute is full");
        };
        assert_eq!(second.at, at(120_000));
        let ended = entry("c", Some(0), Some(119_999));
        assert_eq!(step(&ended, Some(&last(1)), &TERMS, at(500_000)), Step::Settle);
    }

    #[test]
    fn an_unconnected_call_is_settled_and_an_empty_entry_is_idle() {
        assert_eq!(step(&entry("c", None, Some(5)), None, &TERMS, at(0)), Step::Settle);
        assert_eq!(step(&entry("c", None, None), None, &TERMS, at(0)), Step::Idle);
        // Connected after its end.
        assert_eq!(step(&entry("c", Some(10), Some(5)), None, &TERMS, at(9)), Step::Settle);
    }

    #[test]
    fn a_call_keeps_the_interval_of_its_terms() {
        let call = BillingEntry {
            interval_ms: std::num::NonZeroU32::new(5_000),
            ..entry("c", Some(0), None)
        };
        assert_eq!(step(&call, None, &TERMS, at(4_999)), Step::Wait(at(5_000)));
        assert_eq!(step(&call, None, &TERMS, at(5_000)), Step::Tick(tick("c", 1, 0, 5_000)));
    }

    #[test]
    fn an_ended_call_waits_for_no_clock() {
        // Its media-worker's clock is ahead of the server's.
        let call = entry("c", Some(0), Some(200_000));
        let Step::Tick(second) = step(&call, Some(&last(1)), &TERMS, at(5)) else {
            panic!("its end proves that the minute is full");
        };
        assert_eq!(second.at, at(120_000));
    }

    #[test]
    fn ticks_are_due_by_the_server_whatever_the_clock_of_the_media_worker_shows() {
        for off in [-3_600_000i64, -30_000, 0, 30_000, 3_600_000] {
            let call = BillingEntry {
                connected_at: Some(at(7_200_000 + off)),
                started_at: Some(at(7_200_000)),
                ..entry("c", None, None)
            };
            assert_eq!(step(&call, None, &TERMS, at(7_259_999)), Step::Wait(at(7_260_000)));
            let Step::Tick(first) = step(&call, None, &TERMS, at(7_260_000)) else {
                panic!("due");
            };
            assert_eq!(first.at, at(7_260_000 + off));
            assert_eq!(deadline(&call, &TERMS), Some(at(7_500_000)));
        }
    }

    #[test]
    fn contradicting_ticks_stop_further_ticks_but_not_the_settlement() {
        let odd = LastTick::new(&tick("c", 2, 0, 90_001));
        assert!(contradiction(&entry("c", Some(0), None), Some(&odd), &TERMS).is_some());
        assert_eq!(
            step(&entry("c", Some(0), None), Some(&odd), &TERMS, at(500_000)),
            Step::Idle
        );
        let ended = entry("c", Some(0), Some(300_000));
        assert_eq!(step(&ended, Some(&odd), &TERMS, at(500_000)), Step::Settle);
    }

    #[test]
    fn only_a_connected_call_that_has_not_ended_has_a_deadline() {
        assert_eq!(deadline(&entry("c", Some(0), None), &TERMS), Some(at(300_000)));
        assert_eq!(deadline(&entry("c", Some(0), Some(1)), &TERMS), None);
        assert_eq!(deadline(&entry("c", None, None), &TERMS), None);
        let endless = DefaultTerms {
            max_call_duration_ms: None,
            ..TERMS
        };
        assert_eq!(deadline(&entry("c", Some(0), None), &endless), None);
    }
}
