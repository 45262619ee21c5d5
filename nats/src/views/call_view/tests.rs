use proptest::prelude::*;

use super::*;
use crate::samples::{accepted, at, ended, parties, requested, rtp_detected, rtp_lost, settled, tick};
use crate::wire::fact::{RtpDetected, RtpLost, RtpResumed};

/// A call of two minutes with a loss on each side; the otomo's RTP resumes.
fn call() -> Vec<Fact> {
    let (call, connected_at) = ("call_1", at(2_000));
    let party = Role::Otomo;
    vec![
        requested(call, at(0)).into(),
        accepted(call, at(1_000)).into(),
        RtpDetected {
            detected_from: party,
            ..rtp_detected(call, connected_at)
        }
        .into(),
        tick(call, 1, connected_at, 60_000).into(),
        rtp_lost(call, at(70_000)).into(),
        RtpLost {
            party,
            ..rtp_lost(call, at(71_000))
        }
        .into(),
        RtpResumed {
            parties: parties(call),
            party,
            at: at(80_000),
            gap_ms: 9_000,
        }
        .into(),
        tick(call, 2, connected_at, 60_000).into(),
        ended(call, at(125_000), Some(connected_at)).into(),
        settled(call, connected_at, 123_000, 2).into(),
    ]
}

fn trace() -> TraceParent {
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        .parse()
        .unwrap()
}

fn fold(facts: &[(u64, Fact)]) -> CallView {
    let (sequence, first) = &facts[0];
    let mut view = CallView::new(first, *sequence, trace());
    for (sequence, fact) in &facts[1..] {
        view.apply(fact, *sequence, trace());
    }
    view
}

fn numbered() -> Vec<(u64, Fact)> {
    (1..).zip(call()).collect()
}

#[test]
fn the_state_follows_the_last_fact() {
    let states: Vec<(&str, Option<Timestamp>)> = (1..=10)
        .map(|count| {
            let view = fold(&numbered()[..count]);
            (view.state().as_str(), view.since())
        })
        .collect();
    let connected = ("connected", Some(at(2_000)));
    let expected = [
        ("ringing", Some(at(0))),
        ("accepted", Some(at(1_000))),
        connected,
        connected,
        connected,
        connected,
        connected,
        connected,
        ("ended", Some(at(125_000))),
        ("settled", Some(at(125_000))),
    ];
    assert_eq!(states, expected);
}

#[test]
fn a_view_has_tick_media_worker_end_and_bill() {
    let view = fold(&numbered());
    assert_eq!(view.last_tick.unwrap().minute, 2);
    assert_eq!(view.media_of(Role::User).map(|media| media.lost), Some(true));
    assert_eq!(view.media_of(Role::Otomo).map(|media| media.lost), Some(false));
    assert_eq!(view.worker_id.as_ref().unwrap().as_str(), "mw_1");
    assert_eq!(view.end.as_ref().unwrap().by.as_deref(), Some("user"));
    assert_eq!(view.bill.unwrap().billed_minutes, 2);
}

#[test]
fn a_settlement_implies_the_end_and_ended_adds_its_originator() {
    let facts = numbered();
    let mut view = CallView::new(&facts[9].1, 10, trace());
    assert_eq!(
        (view.state(), view.end.as_ref().unwrap().by.as_deref()),
        (CallState::Settled, None)
    );
    view.apply(&facts[8].1, 9, trace());
    assert_eq!(view.end.unwrap().by.as_deref(), Some("user"));
}

#[test]
fn another_calls_facts_change_nothing() {
    let before = fold(&numbered()[..3]);
    let mut view = before.clone();
    let mut other = call().remove(8);
    if let Fact::Ended(ended) = &mut other {
        ended.parties = parties("call_2");
    }
    view.apply(&other, 20, trace());
    assert_eq!(view, before);
}

proptest! {
    #[test]
    fn neither_order_nor_repetition_matters(order in proptest::collection::vec(0..10usize, 0..20), whole in Just((0..10usize).collect::<Vec<_>>()).prop_shuffle()) {
        let facts = numbered();
        let shuffled: Vec<_> = whole.iter().chain(&order).map(|index| facts[*index].clone()).collect();
        prop_assert_eq!(fold(&shuffled), fold(&facts));
    }
}
