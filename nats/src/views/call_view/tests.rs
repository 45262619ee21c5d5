use proptest::prelude::*;

use super::*;
use crate::wire::fact::{
    Accepted, Ended, Method, Requested, RtpDetected, RtpEvidence, RtpLost, RtpResumed, Settled, Tick,
};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis).unwrap()
}

fn parties(call: &str) -> Parties {
    Parties {
        call_id: call.parse().unwrap(),
        user_id: "u".parse().unwrap(),
        otomo_id: "o".parse().unwrap(),
    }
}

/// A call of two minutes with a loss on each side; the otomo's RTP resumes.
fn call() -> Vec<Fact> {
    let parties = parties("call_1");
    let lost = |party, at| RtpLost {
        parties: parties.clone(),
        party,
        last_rtp_at: Some(at),
        lost_at: None,
        gap_ms: 5_000,
    };
    let tick = |minute: u32| Tick {
        parties: parties.clone(),
        minute,
        at: at(2_000 + i64::from(minute) * 60_000),
        connected_at: at(2_000),
    };
    vec![
        Requested::new(parties.clone(), at(0)).into(),
        Accepted {
            parties: parties.clone(),
            accepted_at: at(1_000),
            worker_id: "mw_1".parse().unwrap(),
            worker_started_at: None,
        }
        .into(),
        RtpDetected {
            parties: parties.clone(),
            connected_at: at(2_000),
            method: Method::SfuRtpDetected,
            detected_from: Role::Otomo,
            evidence: RtpEvidence {
                worker_id: "mw_1".parse().unwrap(),
                producer_id: "p".to_owned(),
                ssrc: 1,
                sequence_number: None,
                rtp_timestamp: None,
            },
            terms: None,
        }
        .into(),
        tick(1).into(),
        lost(Role::User, at(70_000)).into(),
        lost(Role::Otomo, at(71_000)).into(),
        RtpResumed {
            parties: parties.clone(),
            party: Role::Otomo,
            at: at(80_000),
            gap_ms: 9_000,
        }
        .into(),
        tick(2).into(),
        Ended {
            parties: parties.clone(),
            ended_at: at(125_000),
            reason: EndReason::Hangup,
            by: "user".to_owned(),
            connected_at: Some(at(2_000)),
            duration_ms: None,
            clock_step_ms: None,
            party: None,
            terms: None,
        }
        .into(),
        Settled {
            parties: parties.clone(),
            connected_at: Some(at(2_000)),
            ended_at: at(125_000),
            duration_ms: 123_000,
            ticks: 2,
            over_ticks: 0,
            billed_minutes: 2,
            reason: EndReason::Hangup,
            billed_ms: None,
            silent_ms: None,
            until_ms: None,
            terms: None,
        }
        .into(),
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
