use contract::EndReason;
use contract::wire::terms::Terms;
use proptest::prelude::*;

use super::*;
use crate::domain::last_tick::LastTick;
use crate::testing::{at, ended, entry, parties, tick};

const DEFAULTS: DefaultTerms = DefaultTerms {
    interval_ms: 60_000,
    charge: Charge::Full,
    max_call_duration_ms: None,
};
const SECOND: u64 = 1_000;

fn terms(charge: Charge, silence: Silence) -> Terms {
    Terms {
        terms_id: "t".parse().unwrap(),
        interval_ms: 60_000,
        charge,
        free_ms: 0,
        minimum_ms: 0,
        silence,
    }
}

fn facts(terms: Option<Terms>) -> CallFacts {
    CallFacts {
        terms,
        ..CallFacts::default()
    }
}

/// A call that was connected at 0 and lasted this long.
fn billed(facts: &CallFacts, duration_ms: u64) -> Settled {
    let end = BillingEnd {
        ended_at: at(i64::try_from(duration_ms).unwrap()),
        reason: EndReason::Hangup,
    };
    settle(&parties("c"), Some(at(0)), &end, facts, &DEFAULTS)
}

fn silent(mut facts: CallFacts, party: Role, from: Option<i64>, to: Option<i64>) -> CallFacts {
    facts.silences.lost(party, from.map(at));
    if let Some(to) = to {
        facts.silences.resumed(party, at(to));
    }
    facts
}

#[test]
fn the_worked_example_of_the_documents() {
    let facts = facts(Some(Terms {
        free_ms: 10_000,
        ..terms(Charge::Start, Silence::DeductOtomo)
    }));
    let facts = silent(facts, Role::Otomo, Some(70_000), Some(95_000));
    let settled = billed(&facts, 312_400);
    assert_eq!(
        (settled.billed_ms, settled.billed_minutes, settled.ticks),
        (Some(277_400), 5, 5)
    );
    assert_eq!(settled.silent_ms, Some(SilentMs { user: 0, otomo: 25_000 }));
}

#[test]
fn silence_is_deducted_as_the_terms_say() {
    for (silence, expected) in [
        (Silence::Bill, 300),
        (Silence::DeductOtomo, 260),
        // 30 to 70 and 60 to 90 overlap.
        (Silence::DeductAny, 240),
    ] {
        let facts = facts(Some(terms(Charge::Full, silence)));
        let facts = silent(facts, Role::Otomo, Some(30_000), Some(70_000));
        let facts = silent(facts, Role::User, Some(60_000), Some(90_000));
        let settled = billed(&facts, 300 * SECOND);
        assert_eq!(settled.billed_ms, Some(expected * SECOND), "{silence:?}");
        let silent = SilentMs {
            user: 30_000,
            otomo: 40_000,
        };
        assert_eq!(settled.silent_ms, Some(silent));
    }
}

#[test]
fn an_otomo_that_was_never_heard_is_not_paid() {
    let facts = facts(Some(terms(Charge::Start, Silence::DeductOtomo)));
    let settled = billed(&silent(facts, Role::Otomo, None, None), 240 * SECOND);
    assert_eq!((settled.billed_ms, settled.billed_minutes), (Some(0), 0));
    assert_eq!((settled.duration_ms, settled.ticks), (240_000, 4));
}

#[test]
fn a_repeated_loss_is_one_silence_and_one_without_a_return_lasts_to_the_end() {
    let facts = facts(Some(terms(Charge::Full, Silence::DeductOtomo)));
    let facts = silent(facts, Role::Otomo, Some(10_000), None);
    let facts = silent(facts, Role::Otomo, Some(10_000), Some(20_000));
    let facts = silent(facts, Role::Otomo, Some(50_000), None);
    assert_eq!(billed(&facts, 60 * SECOND).billed_ms, Some(40_000));
}

#[test]
fn the_measured_duration_counts_whatever_the_wall_clock_says() {
    let mut facts = facts(Some(terms(Charge::Full, Silence::DeductOtomo)));
    for wall_clock in [0, 240_000, 264_000, 3_840_000] {
        facts.ended = Some(Box::new(contract::wire::fact::Ended {
            duration_ms: Some(240_000),
            ..ended("c", wall_clock, Some(0))
        }));
        let settled = billed(&facts, u64::try_from(wall_clock).unwrap());
        assert_eq!((settled.duration_ms, settled.billed_minutes), (240_000, 4));
    }
}

#[test]
fn nothing_is_billed_beyond_what_was_granted() {
    let mut facts = facts(Some(Terms {
        minimum_ms: 180_000,
        ..terms(Charge::Start, Silence::DeductOtomo)
    }));
    facts.until_ms = Some(120_000);
    for duration in [0, 60, 125, 600] {
        let settled = billed(&facts, duration * SECOND);
        assert_eq!(
            (settled.billed_ms, settled.billed_minutes),
            (Some(120_000), 2),
            "{duration}"
        );
        assert_eq!(settled.until_ms, Some(120_000));
    }
}

#[test]
fn a_minimum_is_billed_to_connected_calls_only() {
    let facts = facts(Some(Terms {
        minimum_ms: 90_000,
        free_ms: 30_000,
        ..terms(Charge::Start, Silence::DeductOtomo)
    }));
    assert_eq!(billed(&facts, SECOND).billed_minutes, 2);
    assert_eq!(billed(&facts, 300 * SECOND).billed_minutes, 5);
    let end = BillingEnd {
        ended_at: at(5),
        reason: EndReason::NoAnswer,
    };
    let never = settle(&parties("c"), None, &end, &facts, &DEFAULTS);
    assert_eq!(
        (never.billed_ms, never.billed_minutes, never.duration_ms),
        (Some(0), 0, 0)
    );
}

#[test]
fn a_call_without_terms_is_billed_by_the_default_terms_silence_included() {
    let facts = silent(facts(None), Role::Otomo, None, None);
    let settled = billed(&facts, 150 * SECOND);
    assert_eq!((settled.billed_minutes, settled.terms), (2, None));
}

#[test]
fn ticks_beyond_the_end_are_reported_and_not_billed() {
    let mut facts = facts(None);
    facts.tick = Some(LastTick::new(&tick("c", 4, 0, 240_000)));
    let settled = billed(&facts, 130 * SECOND);
    assert_eq!((settled.ticks, settled.over_ticks, settled.billed_minutes), (2, 2, 2));
    // Its interval follows from nothing.
    facts.tick = Some(LastTick::new(&tick("c", 2, 0, 90_001)));
    let settled = billed(&facts, 300 * SECOND);
    assert_eq!((settled.ticks, settled.billed_minutes), (5, 5));
}

#[test]
fn a_call_connected_after_its_end_has_no_duration() {
    let end = BillingEnd {
        ended_at: at(5),
        reason: EndReason::Hangup,
    };
    let settled = settle(&parties("c"), Some(at(10)), &end, &facts(None), &DEFAULTS);
    assert_eq!(
        (settled.connected_at, settled.duration_ms, settled.ticks),
        (Some(at(10)), 0, 0)
    );
}

#[test]
fn a_call_is_settled_only_once_its_due_ticks_are_stored() {
    let (mut facts, now) = (facts(None), at(500_000));
    let unconnected = entry("c", None, Some(130_000));
    assert!(settle_if_complete(&unconnected, &facts, &DEFAULTS, now).is_some());
    // Stored meanwhile.
    facts.connected_at = Some(at(0));
    assert_eq!(settle_if_complete(&unconnected, &facts, &DEFAULTS, now), None);
    facts.tick = Some(LastTick::new(&tick("c", 2, 0, 120_000)));
    let settled = settle_if_complete(&unconnected, &facts, &DEFAULTS, now).unwrap();
    assert_eq!((settled.connected_at, settled.ticks), (Some(at(0)), 2));
    assert_eq!(
        settle_if_complete(&entry("c", Some(0), None), &facts, &DEFAULTS, now),
        None
    );
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let charge = prop_oneof![Just(Charge::Full), Just(Charge::Start)];
    let silence = prop_oneof![
        Just(Silence::Bill),
        Just(Silence::DeductOtomo),
        Just(Silence::DeductAny)
    ];
    (100u64..120_000, charge, silence, 0u64..200_000, 0u64..200_000).prop_map(
        |(interval_ms, charge, silence, free_ms, minimum_ms)| Terms {
            terms_id: "t".parse().unwrap(),
            interval_ms,
            charge,
            free_ms,
            minimum_ms,
            silence,
        },
    )
}

/// Losses and returns: whose, and how long after the one before.
fn any_changes() -> impl Strategy<Value = Vec<(bool, bool, i64)>> {
    prop::collection::vec((any::<bool>(), any::<bool>(), 0i64..60_000), 0..12)
}

proptest! {
    #[test]
    fn a_bill_is_at_least_the_minimum_and_at_most_the_grant(
        terms in any_terms(),
        duration in 0u64..1_000_000,
        granted in prop::option::of(1u64..30),
        changes in any_changes(),
    ) {
        let mut facts = facts(Some(terms.clone()));
        facts.until_ms = granted.map(|intervals| intervals * terms.interval_ms);
        let mut now = 0;
        for (is_otomo, is_loss, later) in changes {
            now += later;
            let party = if is_otomo { Role::Otomo } else { Role::User };
            if is_loss {
                facts.silences.lost(party, Some(at(now)));
            } else {
                facts.silences.resumed(party, at(now));
            }
        }
        let settled = billed(&facts, duration);
        let (billed_ms, silent) = (settled.billed_ms.unwrap(), settled.silent_ms.unwrap());
        let until = facts.until_ms.unwrap_or(u64::MAX);
        prop_assert!(billed_ms <= until);
        prop_assert!(u64::from(settled.billed_minutes) * terms.interval_ms <= until);
        prop_assert!(silent.user <= duration && silent.otomo <= duration);
        let minimum = terms.minimum_ms.min(until);
        prop_assert!(billed_ms >= minimum);
        prop_assert!(billed_ms <= duration.max(minimum));
        if terms.silence == Silence::DeductOtomo {
            prop_assert!(billed_ms <= (duration - silent.otomo).max(minimum), "billed beyond what was heard");
        }
        if terms.silence == Silence::DeductAny {
            prop_assert!(billed_ms <= (duration - silent.otomo.max(silent.user)).max(minimum));
            prop_assert!(billed_ms + silent.otomo + silent.user + terms.free_ms >= duration.min(until));
        }
        let minutes = u64::from(settled.billed_minutes);
        match terms.charge {
            Charge::Full => prop_assert!(minutes * terms.interval_ms <= billed_ms),
            Charge::Start => prop_assert!(minutes * terms.interval_ms >= billed_ms),
        }
        prop_assert!(billed_ms.abs_diff(minutes * terms.interval_ms) < terms.interval_ms);
    }

    #[test]
    fn more_silence_never_costs_more_and_more_time_never_less(
        terms in any_terms(),
        duration in 0u64..1_000_000,
        longer in 0u64..100_000,
        from in 0i64..1_000_000,
    ) {
        let quiet = silent(facts(Some(terms.clone())), Role::Otomo, Some(from), None);
        let heard = facts(Some(terms));
        prop_assert!(billed(&quiet, duration).billed_ms <= billed(&heard, duration).billed_ms);
        prop_assert!(billed(&heard, duration).billed_ms <= billed(&heard, duration + longer).billed_ms);
    }
}
