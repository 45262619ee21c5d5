//! The next step of one call.

use contract::Timestamp;
use contract::buckets::billing_index::BillingEntry;
use contract::wire::fact::{Settled, Tick};

use super::last_tick::{self, Contradiction, LastTick};
use super::settlement::settle;
use super::terms::{Terms, due};

/// The next step of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Publish this tick, which is due.
    Tick(Tick),
    /// Wait until this time.
    Wait(Timestamp),
    /// Settle: the call is over and all its ticks are stored.
    Settle(Settled),
    /// Nothing until the entry changes.
    Idle,
}

/// Decides from the call's entry, its last stored tick and the wall clock.
///
/// No tick is early: a tick due in the future is waited for even if the call is known to end after it, which happens only if
/// clocks differ. A call whose stored ticks contradict its entry gets no more ticks, but it is settled.
pub fn step(entry: &BillingEntry, last: Option<&LastTick>, terms: &Terms, now: Timestamp) -> Step {
    let Some(connected_at) = connected_at(entry, last) else {
        return entry.end.as_ref().map_or(Step::Idle, |end| {
            Step::Settle(settle(entry, None, end, last, terms.interval_ms, terms.charge))
        });
    };
    let (interval_ms, next) = match last_tick::interval_ms(last, connected_at, terms.interval_ms) {
        Ok(interval_ms) => (interval_ms, next_tick(entry, last, connected_at, interval_ms)),
        Err(_) => (terms.interval_ms, None),
    };
    match (next, &entry.end) {
        (Some(tick), end) if end.as_ref().is_none_or(|end| tick.at <= end.ended_at) => {
            if tick.at <= now {
                Step::Tick(tick)
            } else {
                Step::Wait(tick.at)
            }
        }
        (_, Some(end)) => Step::Settle(settle(entry, Some(connected_at), end, last, interval_ms, terms.charge)),
        (_, None) => Step::Idle,
    }
}

/// The ticks that are due, in order, at most `max`.
pub fn due_ticks(
    entry: &BillingEntry,
    last: Option<&LastTick>,
    terms: &Terms,
    now: Timestamp,
    max: usize,
) -> Vec<Tick> {
    let (mut last, mut ticks) = (last.copied(), Vec::new());
    while ticks.len() < max
        && let Step::Tick(tick) = step(entry, last.as_ref(), terms, now)
    {
        // As if it were stored. Its sequence does not matter here.
        last = Some(LastTick::new(&tick, 0));
        ticks.push(tick);
    }
    ticks
}

/// The reason why a connected call gets no more ticks, if any.
pub fn contradiction(entry: &BillingEntry, last: Option<&LastTick>, terms: &Terms) -> Option<Contradiction> {
    let connected_at = connected_at(entry, last)?;
    last_tick::interval_ms(last, connected_at, terms.interval_ms).err()
}

/// When the call reaches its maximum duration, if it is connected and has not ended.
pub fn deadline(entry: &BillingEntry, terms: &Terms) -> Option<Timestamp> {
    match (entry.connected_at, &entry.end, terms.max_call_duration_ms) {
        (Some(connected_at), None, Some(max)) => Some(connected_at.plus_millis(max)),
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

    const TERMS: Terms = Terms {
        interval_ms: 60_000,
        charge: Charge::Full,
        max_call_duration_ms: Some(300_000),
    };

    fn last(minute: u32) -> LastTick {
        LastTick::new(&tick("c", minute, 0, i64::from(minute) * 60_000), 9)
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
        let Step::Settle(settled) = step(&entry("c", Some(0), Some(119_999)), Some(&last(1)), &TERMS, at(500_000))
        else {
            panic!("the second minute is not full");
        };
        assert_eq!(
            (settled.ticks, settled.billed_minutes, settled.duration_ms),
            (1, 1, 119_999)
        );
    }

    #[test]
    fn ticks_beyond_the_end_are_reported_and_not_billed() {
        let Step::Settle(settled) = step(&entry("c", Some(0), Some(130_000)), Some(&last(4)), &TERMS, at(500_000))
        else {
            panic!("over");
        };
        assert_eq!((settled.ticks, settled.over_ticks, settled.billed_minutes), (2, 2, 2));
    }

    #[test]
    fn an_unconnected_call_is_settled_with_zeros_and_an_empty_entry_is_idle() {
        let Step::Settle(settled) = step(&entry("c", None, Some(5)), None, &TERMS, at(0)) else {
            panic!("over")
        };
        assert_eq!(
            (settled.connected_at, settled.duration_ms, settled.billed_minutes),
            (None, 0, 0)
        );
        assert_eq!(step(&entry("c", None, None), None, &TERMS, at(0)), Step::Idle);
    }

    #[test]
    fn a_call_connected_after_its_end_has_no_duration() {
        let Step::Settle(settled) = step(&entry("c", Some(10), Some(5)), None, &TERMS, at(9)) else {
            panic!("over")
        };
        assert_eq!(
            (settled.connected_at, settled.duration_ms, settled.ticks),
            (Some(at(10)), 0, 0)
        );
    }

    #[test]
    fn an_end_in_the_future_causes_no_early_tick() {
        let call = entry("c", Some(0), Some(200_000));
        assert_eq!(
            step(&call, Some(&last(1)), &TERMS, at(119_999)),
            Step::Wait(at(120_000))
        );
    }

    #[test]
    fn contradicting_ticks_stop_further_ticks_but_not_the_settlement() {
        let odd = LastTick::new(&tick("c", 2, 0, 90_001), 9);
        assert!(contradiction(&entry("c", Some(0), None), Some(&odd), &TERMS).is_some());
        assert_eq!(
            step(&entry("c", Some(0), None), Some(&odd), &TERMS, at(500_000)),
            Step::Idle
        );
        let Step::Settle(settled) = step(&entry("c", Some(0), Some(300_000)), Some(&odd), &TERMS, at(500_000)) else {
            panic!("over");
        };
        assert_eq!((settled.ticks, settled.billed_minutes), (5, 5));
    }

    #[test]
    fn only_a_connected_call_that_has_not_ended_has_a_deadline() {
        assert_eq!(deadline(&entry("c", Some(0), None), &TERMS), Some(at(300_000)));
        assert_eq!(deadline(&entry("c", Some(0), Some(1)), &TERMS), None);
        assert_eq!(deadline(&entry("c", None, None), &TERMS), None);
        let endless = Terms {
            max_call_duration_ms: None,
            ..TERMS
        };
        assert_eq!(deadline(&entry("c", Some(0), None), &endless), None);
    }
}
