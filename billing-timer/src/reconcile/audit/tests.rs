//! Facts of a correct service have no differences; each manipulation causes its own kind.

use std::time::Duration;

use contract::samples::{self, rtp_lost};
use contract::wire::credit::Grant;
use contract::wire::fact::{Ended, Requested, RtpDetected, RtpLost, RtpResumed, Settled, SilentMs};
use contract::wire::terms::{Silence, Terms};
use contract::{EndReason, FactKind, Role};

use super::*;
use crate::domain::terms::Charge;
use crate::testing::{at, ended, parties, rtp_detected, tick};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

mod any;

const TERMS: DefaultTerms = DefaultTerms {
    interval_ms: 60_000,
    charge: Charge::Full,
    max_call_duration_ms: Some(4 * 3_600_000),
};

/// Facts with the times at which they are stored.
type Stored = Vec<(i64, Fact)>;

fn window(from: i64, to: i64) -> Window {
    Window {
        from: at(from),
        to: at(to),
        grace: Duration::from_secs(600),
    }
}

fn requested(call: &str, moment: i64) -> Fact {
    samples::requested(call, at(moment)).into()
}

fn settled(call: &str, connected: Option<i64>, ended: i64) -> Settled {
    let from = connected.unwrap_or(ended);
    let duration = u64::try_from(ended - from).unwrap();
    let minutes = u32::try_from((ended - from) / MINUTE).unwrap();
    Settled {
        connected_at: connected.map(at),
        ..samples::settled(call, at(from), duration, minutes)
    }
}

/// A call as the services store it.
fn call(name: &str, connected: i64, duration: i64) -> Stored {
    let over = connected + duration;
    let mut stored = vec![
        (connected - 5 * SECOND, requested(name, connected - 5 * SECOND)),
        (connected + 1, rtp_detected(name, connected).into()),
    ];
    for minute in 1..=duration / MINUTE {
        let due = connected + minute * MINUTE;
        let number = u32::try_from(minute).unwrap();
        stored.push((due + 3, tick(name, number, connected, due).into()));
    }
    stored.push((over + 4, ended(name, over, Some(connected)).into()));
    stored.push((over + 5, settled(name, Some(connected), over).into()));
    stored
}

/// Runs the audit over these facts as the command does.
fn reconcile(mut stored: Stored, window: Window) -> (Vec<Difference>, Summary) {
    stored.sort_by_key(|(stored_at, _)| *stored_at);
    let stream: Vec<SeenFact> = (1..)
        .zip(stored)
        .map(|(sequence, (stored_at, fact))| SeenFact {
            sequence,
            stored_at: at(stored_at),
            fact,
        })
        .collect();
    let mut audit = Audit::new(TERMS, window);
    let read = window.reading_from(&TERMS)..window.reading_to();
    for seen in stream.iter().filter(|seen| read.contains(&seen.stored_at)) {
        audit.advance_to(seen.stored_at);
        if audit.lacks_history(&seen.fact) {
            let call = seen.fact.call_id();
            let earlier = stream.iter().filter(|earlier| earlier.sequence < seen.sequence);
            for earlier in earlier.filter(|earlier| earlier.fact.call_id() == call) {
                audit.recall(earlier.clone()).unwrap();
            }
            audit.recalled(call, seen.stored_at);
        }
        audit.take(seen.clone()).unwrap();
    }
    let mut found = audit.found();
    let (rest, summary) = audit.finish();
    found.extend(rest);
    (found, summary)
}

fn kinds(differences: &[Difference]) -> Vec<Kind> {
    differences.iter().map(|difference| difference.kind).collect()
}

/// The differences of a manipulated call of three and a half minutes.
fn manipulated(manipulate: impl FnOnce(&mut Stored)) -> Vec<Kind> {
    let mut stored = call("c1", HOUR, 3 * MINUTE + 30 * SECOND);
    manipulate(&mut stored);
    // A second call, so that the stream continues.
    stored.extend(call("other", HOUR, 2 * HOUR));
    let (found, summary) = reconcile(stored, window(0, DAY));
    assert_eq!(summary.differences.values().sum::<u64>(), found.len() as u64);
    assert!(
        found
            .iter()
            .all(|difference| difference.call_id == Some("c1".parse().unwrap()))
    );
    kinds(&found)
}

/// A call with terms, silence and a grant, as the services store it.
fn call_with_terms(terms: &Terms) -> Stored {
    let requested = Requested {
        terms: Some(terms.clone()),
        grant: Some(Grant {
            grant_id: "g".parse().unwrap(),
            until_ms: 240_000,
        }),
        ..samples::requested("c1", at(HOUR))
    };
    let detected = RtpDetected {
        terms: Some(terms.clone()),
        ..rtp_detected("c1", HOUR)
    };
    let lost = |party, from: i64| RtpLost {
        party,
        ..rtp_lost("c1", at(HOUR + from))
    };
    let resumed = RtpResumed {
        parties: parties("c1"),
        party: Role::Otomo,
        at: at(HOUR + 60_000),
        gap_ms: 30_000,
    };
    let ended = Ended {
        duration_ms: Some(250_000),
        terms: Some(terms.clone()),
        // The wall clock was set back.
        ..ended("c1", HOUR + 200_000, Some(HOUR))
    };
    let settled = Settled {
        duration_ms: 250_000,
        ticks: 40,
        // 240 s were granted; the otomo was silent for 30 s; 5 s are free.
        billed_ms: Some(205_000),
        billed_minutes: 41,
        silent_ms: Some(SilentMs {
            user: 100_000,
            otomo: 30_000,
        }),
        until_ms: Some(240_000),
        terms: Some(terms.clone()),
        ..settled("c1", Some(HOUR), HOUR + 200_000)
    };
    let mut stored: Stored = vec![(HOUR, requested.into()), (HOUR + 1, detected.into())];
    let facts: [(i64, Fact); 3] = [
        (35_002, lost(Role::Otomo, 30_000).into()),
        (60_002, resumed.into()),
        (105_002, lost(Role::User, 100_000).into()),
    ];
    stored.extend(facts.map(|(later, fact)| (HOUR + later, fact)));
    for minute in 1..=40i64 {
        let due = HOUR + minute * 5_000;
        stored.push((due + 3, tick("c1", u32::try_from(minute).unwrap(), HOUR, due).into()));
    }
    stored.push((HOUR + 200_004, ended.into()));
    stored.push((HOUR + 200_005, settled.into()));
    stored
}

fn terms() -> Terms {
    Terms {
        terms_id: "t".parse().unwrap(),
        interval_ms: 5_000,
        charge: Charge::Start,
        free_ms: 5_000,
        minimum_ms: 0,
        silence: Silence::DeductOtomo,
    }
}

#[test]
fn a_call_with_terms_is_judged_by_them_whatever_the_settings_are() {
    let (found, summary) = reconcile(call_with_terms(&terms()), window(0, DAY));
    assert_eq!((found, summary.billed_minutes, summary.ticks_due), (vec![], 41, 40));
}

#[test]
fn a_clock_step_is_a_finding_and_no_difference() {
    let mut stored = call_with_terms(&terms());
    for (_, fact) in &mut stored {
        if let Fact::Ended(ended) = fact {
            ended.clock_step_ms = Some(-50_000);
        }
    }
    let (found, summary) = reconcile(stored, window(0, DAY));
    assert_eq!(kinds(&found), [Kind::ClockStep]);
    assert!(summary.is_clean());
    assert_eq!(summary.findings["clock_step"], 1);
    let printed = serde_json::to_string(&found[0]).unwrap();
    assert!(
        printed.starts_with(r#"{"finding":"clock_step","callId":"c1""#),
        "{printed}"
    );
}

#[test]
fn other_terms_or_another_bill_are_differences() {
    let other = Terms {
        charge: Charge::Full,
        ..terms()
    };
    let mut stored = call_with_terms(&terms());
    let (at, detected) = stored[1].clone();
    let Fact::RtpDetected(detected) = detected else {
        panic!("not connected")
    };
    stored[1] = (
        at,
        RtpDetected {
            terms: Some(other),
            ..detected
        }
        .into(),
    );
    assert_eq!(kinds(&reconcile(stored, window(0, DAY)).0), [Kind::Terms]);

    let changes: [fn(&mut Settled); 6] = [
        |settled| settled.billed_ms = Some(205_001),
        |settled| settled.billed_minutes = 42,
        |settled| settled.until_ms = None,
        |settled| settled.terms = None,
        |settled| settled.duration_ms = 200_000,
        |settled| settled.silent_ms = Some(SilentMs { user: 0, otomo: 30_000 }),
    ];
    for change in changes {
        let mut stored = call_with_terms(&terms());
        if let Some((_, Fact::Settled(settled))) = stored.last_mut() {
            change(settled);
        }
        assert_eq!(kinds(&reconcile(stored, window(0, DAY)).0), [Kind::Settlement]);
    }
}

fn index(stored: &Stored, kind: FactKind) -> usize {
    stored.iter().position(|(_, fact)| fact.kind() == kind).unwrap()
}

fn remove(kind: FactKind) -> impl FnOnce(&mut Stored) {
    move |stored| {
        stored.remove(index(stored, kind));
    }
}

fn double(kind: FactKind) -> impl FnOnce(&mut Stored) {
    move |stored| {
        let (stored_at, fact) = stored[index(stored, kind)].clone();
        stored.push((stored_at + 60 * SECOND, fact));
    }
}

fn with_settled(change: impl FnOnce(&mut Settled)) -> impl FnOnce(&mut Stored) {
    |stored| match stored.last_mut() {
        Some((_, Fact::Settled(settled))) => change(settled),
        other => panic!("{other:?}"),
    }
}

fn with_ended(change: impl FnOnce(&mut Ended)) -> impl FnOnce(&mut Stored) {
    |stored| {
        let index = index(stored, FactKind::Ended);
        match &mut stored[index].1 {
            Fact::Ended(ended) => change(ended),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_clean_call_is_counted() {
    let (found, summary) = reconcile(call("c1", HOUR, 3 * MINUTE + 30 * SECOND), window(0, DAY));
    assert_eq!(found, []);
    let expected = Summary {
        calls: 1,
        connected: 1,
        settled: 1,
        billed_minutes: 3,
        ticks_due: 3,
        ticks_stored: 3,
        ..Summary::default()
    };
    assert_eq!(summary, expected);
    assert!(summary.is_clean());
}

#[test]
fn an_unconnected_call_is_clean_and_bills_nothing() {
    let stored = vec![
        (0, requested("c1", 0)),
        (9, ended("c1", 9, None).into()),
        (10, settled("c1", None, 9).into()),
    ];
    let (found, summary) = reconcile(stored, window(0, DAY));
    assert_eq!((found, summary.calls, summary.connected), (vec![], 1, 0));
}

#[test]
fn missing_facts_are_reported() {
    assert_eq!(manipulated(remove(FactKind::Requested)), []);
    assert_eq!(manipulated(remove(FactKind::Tick)), [Kind::TickMissing]);
    assert_eq!(manipulated(remove(FactKind::Ended)), [Kind::SettledWithoutEnd]);
    assert_eq!(manipulated(remove(FactKind::Settled)), [Kind::NotSettled]);
    assert_eq!(
        manipulated(remove(FactKind::RtpDetected)),
        [Kind::TickUnconnected, Kind::Beginning]
    );
    let all_ticks = |stored: &mut Stored| stored.retain(|(_, fact)| fact.kind() != FactKind::Tick);
    assert_eq!(manipulated(all_ticks), [Kind::TickMissing]);
    let all_after_the_second = |stored: &mut Stored| stored.truncate(4);
    assert_eq!(manipulated(all_after_the_second), [Kind::TickMissing, Kind::NotEnded]);
}

#[test]
fn repeated_facts_are_reported() {
    assert_eq!(manipulated(double(FactKind::RtpDetected)), [Kind::ConnectedTwice]);
    assert_eq!(manipulated(double(FactKind::Ended)), [Kind::EndedTwice]);
    assert_eq!(manipulated(double(FactKind::Settled)), [Kind::SettledTwice]);
    assert_eq!(manipulated(double(FactKind::Tick)), [Kind::TickDoubled]);
    let second_chain = |stored: &mut Stored| {
        for minute in 1..=3u32 {
            let due = HOUR + i64::from(minute) * MINUTE;
            stored.push((due + 50, tick("c1", minute, HOUR, due).into()));
        }
    };
    assert_eq!(manipulated(second_chain), [Kind::TickDoubled; 3]);
}

#[test]
fn a_late_second_settlement_is_reported_after_the_call_was_dropped() {
    let late = |stored: &mut Stored| {
        let mut second = settled("c1", Some(HOUR), HOUR + 3 * MINUTE + 30 * SECOND);
        second.billed_minutes = 4;
        stored.push((3 * HOUR, second.into()));
    };
    assert_eq!(manipulated(late), [Kind::SettledTwice]);
    // Only by the window in which it was stored.
    let mut stored = call("c1", HOUR, MINUTE);
    late(&mut stored);
    let reported = |from, to| kinds(&reconcile(stored.clone(), window(from, to)).0);
    assert_eq!(reported(0, 2 * HOUR), []);
    assert_eq!(reported(2 * HOUR, 4 * HOUR), [Kind::SettledTwice]);
    assert_eq!(reported(4 * HOUR, 6 * HOUR), []);
}

#[test]
fn wrong_ticks_are_reported() {
    let swap = |stored: &mut Stored| {
        stored[3].0 += 2 * MINUTE;
    };
    assert_eq!(manipulated(swap), [Kind::TickOutOfOrder]);
    let shift = |stored: &mut Stored| stored[3].1 = tick("c1", 2, HOUR, HOUR + 2 * MINUTE + 1).into();
    assert_eq!(manipulated(shift), [Kind::TickTime]);
    let other_beginning = |stored: &mut Stored| stored[3].1 = tick("c1", 2, HOUR + 7, HOUR + 2 * MINUTE + 7).into();
    assert_eq!(manipulated(other_beginning), [Kind::Beginning]);
    let beyond = |stored: &mut Stored| {
        let due = HOUR + 4 * MINUTE;
        stored.push((due, tick("c1", 4, HOUR, due).into()));
    };
    assert_eq!(manipulated(beyond), [Kind::TickBeyondEnd]);
    let announced = |stored: &mut Stored| {
        beyond(stored);
        let last = stored.len() - 2;
        match &mut stored[last].1 {
            Fact::Settled(settled) => settled.over_ticks = 1,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(manipulated(announced), []);
}

#[test]
fn each_field_of_the_settlement_is_compared() {
    for change in [
        |settled: &mut Settled| settled.billed_minutes += 1,
        |settled: &mut Settled| settled.ticks -= 1,
        |settled: &mut Settled| settled.duration_ms += 1,
        |settled: &mut Settled| settled.over_ticks = 1,
        |settled: &mut Settled| settled.ended_at = at(7),
        |settled: &mut Settled| settled.connected_at = None,
        |settled: &mut Settled| settled.reason = EndReason::Terminated,
    ] {
        assert_eq!(manipulated(with_settled(change)), [Kind::Settlement]);
    }
    let other_user = |settled: &mut Settled| settled.parties.user_id = "somebody".parse().unwrap();
    assert_eq!(manipulated(with_settled(other_user)), [Kind::Parties]);
    assert_eq!(manipulated(with_ended(|ended| ended.connected_at = None)), []);
    assert_eq!(
        manipulated(with_ended(|ended| ended.connected_at = Some(at(7)))),
        [Kind::Beginning]
    );
}

#[test]
fn a_call_with_another_interval_is_reported_once_and_checked_by_its_own_interval() {
    let half_minutes = |stored: &mut Stored| {
        stored.retain(|(_, fact)| fact.kind() != FactKind::Tick);
        for number in 1..=7u32 {
            let due = HOUR + i64::from(number) * MINUTE / 2;
            stored.push((due + 3, tick("c1", number, HOUR, due).into()));
        }
        let settlement = index(stored, FactKind::Settled);
        match &mut stored[settlement].1 {
            Fact::Settled(settled) => (settled.ticks, settled.billed_minutes) = (7, 7),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(manipulated(half_minutes), [Kind::MinuteLength]);
}

#[test]
fn a_running_call_is_checked_up_to_the_end_of_the_window() {
    let mut stored = call("c1", 23 * HOUR, 3 * HOUR);
    let summary = |stored: &Stored| reconcile(stored.clone(), window(0, DAY));
    let (found, counted) = summary(&stored);
    assert_eq!((found, counted.running, counted.ticks_due), (vec![], 1, 60));
    let tenth = stored
        .iter()
        .position(|(_, fact)| matches!(fact, Fact::Tick(tick) if tick.minute == 10));
    stored.remove(tenth.unwrap());
    assert_eq!(kinds(&summary(&stored).0), [Kind::TickMissing]);
    // Billing stopped. Ticks due exactly at the end of the window may be late.
    stored.retain(|(stored_at, _)| *stored_at < DAY - MINUTE);
    stored.extend(call("other", 23 * HOUR, 2 * HOUR));
    let (found, counted) = summary(&stored);
    assert_eq!((kinds(&found), counted.running), (vec![Kind::TickMissing; 2], 2));
}

#[test]
fn a_call_beyond_its_maximum_duration_is_reported_by_one_window() {
    // No facts are stored after its first minutes.
    let mut stored = call("c1", HOUR, 10 * MINUTE);
    stored.truncate(2);
    stored.extend(call("other", 20 * HOUR, MINUTE));
    let reported = |from: i64, to: i64| kinds(&reconcile(stored.clone(), window(from * HOUR, to * HOUR)).0);
    assert_eq!(reported(0, 4), [Kind::TickMissing]);
    assert_eq!(reported(4, 8), [Kind::TickMissing, Kind::NotEnded]);
    assert_eq!(reported(8, 24), []);
}

#[test]
fn unreadable_messages_are_reported_by_their_window() {
    let mut audit = Audit::new(TERMS, window(0, DAY));
    for stored_at in [-1, 5, DAY] {
        audit.unreadable(
            Some("c1".parse().unwrap()),
            9,
            at(stored_at),
            "not a tick: …".to_owned(),
        );
        audit.parked(None, None, at(stored_at), "parked.x.y with …".to_owned());
    }
    assert_eq!(kinds(&audit.found()), [Kind::Unreadable, Kind::Parked]);
}

#[test]
fn calls_that_are_over_are_dropped() {
    let mut audit = Audit::new(TERMS, window(0, DAY));
    let mut most = 0;
    for number in 0..2_000i64 {
        for (stored_at, fact) in call(&format!("c{number}"), number * MINUTE, 30 * SECOND) {
            let seen = SeenFact {
                sequence: u64::try_from(number).unwrap(),
                stored_at: at(stored_at),
                fact,
            };
            audit.advance_to(seen.stored_at);
            audit.take(seen).unwrap();
        }
        most = most.max(audit.open_calls());
    }
    assert!(most <= 12, "{most}: ten minutes of grace, a call a minute");
    assert_eq!(audit.found(), []);
}
