//! False, early, misdirected, missing and late notices.

use serde_json::{Value, json};

use super::run::{Run, fault, snapshot_of_c1, text, timestamp};
use super::{Case, assert_found};
use crate::records::run_log::Attempt;
use crate::report::Check::{EarlyNotice, FalseNotice, LateNotice, MisdirectedNotice, MissingNotice, Recovery, Slow};
use crate::report::Check::{Undecided, Unreadable};
use crate::report::NoticeCounts;
use callpulse_tests::token::Role;

const FALSE_NOTICES: &[Case] = &[
    ("another beginning", &[FalseNotice], |run| {
        payload(run, "call_connected")["connectedAt"] = text(1_001)
    }),
    ("another method", &[FalseNotice], |run| {
        payload(run, "call_connected")["method"] = json!("other")
    }),
    (
        "a connection with an additional field",
        &[Recovery, Unreadable, LateNotice],
        |run| payload(run, "call_connected")["ssrc"] = json!(7),
    ),
    ("a connection that is not stored", &[FalseNotice], |run| {
        run.notify(
            1_500,
            "c2",
            "call_connected",
            json!({"connectedAt": text(1_400), "method": "sfu_rtp_detected"}),
        );
    }),
    ("a connection before it was stored", &[EarlyNotice], |run| {
        run.fact("c1", "rtp_detected", 0).0 = 1_100
    }),
    ("another acceptance", &[FalseNotice], |run| {
        payload(run, "call_accepted")["acceptedAt"] = text(501)
    }),
    ("another caller", &[FalseNotice], |run| {
        let incoming = run
            .received
            .iter_mut()
            .find(|message| message.3["type"] == "incoming_call")
            .unwrap();
        incoming.3["payload"]["userId"] = json!("u2");
    }),
    ("a tick that is not stored", &[FalseNotice], |run| {
        payload(run, "tick")["minute"] = json!(9)
    }),
    ("another time of a tick", &[FalseNotice], |run| {
        payload(run, "tick")["at"] = text(3_001)
    }),
    ("a tick before it was stored", &[EarlyNotice], |run| {
        run.fact("c1", "tick", 0).0 = 3_100
    }),
    ("another bill", &[FalseNotice], |run| {
        payload(run, "call_ended")["billedMinutes"] = json!(2)
    }),
    ("another duration", &[FalseNotice], |run| {
        payload(run, "call_ended")["durationMs"] = json!(0)
    }),
    ("another end", &[FalseNotice], |run| {
        payload(run, "call_ended")["endedAt"] = text(8_001)
    }),
    ("another reason", &[FalseNotice], |run| {
        payload(run, "call_ended")["reason"] = json!("terminated")
    }),
    ("a notice about the call of others", &[MisdirectedNotice], |run| {
        let tick = run
            .received
            .iter()
            .find(|message| message.3["type"] == "tick")
            .unwrap()
            .clone();
        run.received.push((tick.0, "u2", Role::User, tick.3));
    }),
    ("a call that does not exist", &[FalseNotice], |run| {
        payload(run, "tick")["callId"] = json!("c9")
    }),
    ("a loss that is not stored", &[FalseNotice], |run| {
        run.notify(6_000, "c1", "media_lost", json!({"party": "user"}))
    }),
    ("a loss before it was stored", &[EarlyNotice], |run| {
        let lost = json!({"party": "user", "lastRtpAt": text(5_000), "gapMs": 900});
        let ended = run.index("c1", "ended");
        run.facts.insert(ended, Run::lost(6_100, lost));
        run.notify(6_000, "c1", "media_lost", json!({"party": "user"}));
    }),
    ("a snapshot of another beginning", &[FalseNotice], |run| {
        snapshot(run, "connectedAt", text(1_001))
    }),
    ("a snapshot of another acceptance", &[FalseNotice], |run| {
        snapshot(run, "acceptedAt", text(501))
    }),
    ("a snapshot in another state", &[FalseNotice], |run| {
        snapshot(run, "state", json!("ringing"))
    }),
    ("a snapshot with a tick that is not stored", &[FalseNotice], |run| {
        snapshot(run, "lastTick", json!({"minute": 2, "at": text(5_001)}));
    }),
    ("a snapshot with a tick before it was stored", &[EarlyNotice], |run| {
        snapshot(run, "lastTick", json!({"minute": 3, "at": text(7_000)}));
    }),
    ("a response with a call that is not stored", &[FalseNotice], |run| {
        answer(run, json!({"callId": "c9", "expiresAt": text(1)}));
    }),
    ("a response with another end", &[FalseNotice], |run| {
        answer(run, json!({"callId": "c1", "endedAt": text(1)}));
    }),
    ("a notice without its fields", &[Unreadable], |run| {
        run.received
            .push((20, "u1", Role::User, json!({"type": "tick", "payload": {}})));
    }),
];

const MISSING_NOTICES: &[Case] = &[
    ("the end", &[MissingNotice], |run| run.drop_messages("u1", "call_ended")),
    (
        "the end, with a snapshot of the call as it was",
        &[MissingNotice],
        |run| {
            run.drop_messages("u1", "call_ended");
            run.welcome(15_000, "u1", snapshot_of_c1());
        },
    ),
    (
        "the end, for more than ten calm seconds",
        &[Recovery, LateNotice],
        |run| {
            run.drop_messages("u1", "call_ended");
            run.welcome(24_100, "u1", Value::Null);
        },
    ),
    ("the end, for ten calm seconds after an outage", &[LateNotice], |run| {
        run.drop_messages("u1", "call_ended");
        run.away("u1", 13_500, Some(16_000));
        run.welcome(26_001, "u1", Value::Null);
    }),
    ("the end, after an outage", &[MissingNotice], |run| {
        run.drop_messages("u1", "call_ended");
        run.away("u1", 13_500, Some(16_000));
    }),
    ("the end, after a fault", &[MissingNotice], |run| {
        run.drop_messages("u1", "call_ended");
        run.entries.faults = vec![fault("cut", 13_900, 20_000)];
    }),
    ("the end, without calm", &[Undecided], |run| {
        run.drop_messages("u1", "call_ended");
        run.entries.faults = vec![fault("cut", 13_900, 31_000)];
    }),
    ("the end, in a run that ended immediately", &[Undecided], |run| {
        run.drop_messages("u1", "call_ended");
        run.entries.over_at = Some(timestamp(15_000));
    }),
    (
        "the connection, before the end arrived",
        &[Recovery, LateNotice],
        |run| run.drop_messages("u1", "call_connected"),
    ),
    ("connection and end", &[MissingNotice], |run| {
        run.drop_messages("u1", "call_connected");
        run.drop_messages("u1", "call_ended");
    }),
];

const SLOW: &[Case] = &[
    ("an outage of 24 s", &[Slow], |run| {
        run.drop_messages("u1", "call_ended");
        run.entries.faults.push(fault("SIGKILL", 4_900, 5_500));
        run.away("u1", 5_000, Some(29_000));
        run.welcome(29_000, "u1", Value::Null);
    }),
    ("an outage until the end", &[Recovery], |run| {
        run.drop_messages("u1", "call_ended");
        run.away("u1", 33_000, None);
        run.entries.faults = vec![fault("cut", 13_000, 39_000)];
    }),
    ("a step that never succeeds again", &[Recovery], |run| {
        run.entries.faults.push(fault("cut", 38_000, 39_000));
        run.entries.attempts.push(Attempt {
            began: timestamp(38_500),
            at: timestamp(38_500),
            party: "u2".to_owned(),
            step: "call_request",
            failed: Some("unavailable".to_owned()),
        });
    }),
    ("a tick 11 s late, for no reason", &[Recovery], late_tick),
    ("a tick 11 s late, after a kill", &[Slow], |run| {
        run.entries.faults.push(fault("SIGKILL", 12_900, 13_500));
        late_tick(run);
    }),
];

fn late_tick(run: &mut Run) {
    run.fact("c1", "tick", 5).0 = 24_002;
    run.fact("c1", "ended", 0).0 = 24_100;
    run.fact("c1", "settled", 0).0 = 24_200;
    let late = run.received.iter_mut().filter(|message| message.0 > 13_000);
    late.for_each(|message| message.0 += 12_000);
}

fn payload<'a>(run: &'a mut Run, kind: &str) -> &'a mut Value {
    let mut received = run.received.iter_mut();
    let found = received.find(|(_, party, _, message)| *party == "u1" && message["type"] == kind);
    &mut found.unwrap().3["payload"]
}

fn snapshot(run: &mut Run, field: &str, value: Value) {
    let mut call = snapshot_of_c1();
    call[field] = value;
    let message = json!({"type": "snapshot", "payload": {"activeCall": call}});
    run.received.push((6_000, "u1", Role::User, message));
}

fn answer(run: &mut Run, payload: Value) {
    let message = json!({"type": "response", "id": 1, "payload": payload});
    run.received.push((15_000, "u1", Role::User, message));
}

#[test]
fn false_notices_are_found() {
    assert_found(FALSE_NOTICES);
}

#[test]
fn missing_notices_are_found() {
    assert_found(MISSING_NOTICES);
}

#[test]
fn a_slow_recovery_is_found() {
    assert_found(SLOW);
}

#[test]
fn other_deliveries_are_counted_separately() {
    let notices = |change: fn(&mut Run)| {
        let mut run = Run::clean();
        run.drop_messages("u1", "call_ended");
        change(&mut run);
        let report = run.check();
        (report.notices, report.is_clean())
    };
    // Two parties of two ends and one beginning.
    let others = NoticeCounts {
        notified: 5,
        ..NoticeCounts::default()
    };
    let resynchronised = NoticeCounts {
        resynchronised: 1,
        ..others
    };
    assert_eq!(
        notices(|run| run.welcome(23_900, "u1", Value::Null)),
        (resynchronised, true)
    );
    assert_eq!(
        notices(|run| {
            run.away("u1", 13_500, Some(16_000));
            run.welcome(16_000, "u1", Value::Null);
        }),
        (resynchronised, true)
    );
    let cut_off = NoticeCounts { cut_off: 1, ..others };
    assert_eq!(notices(|run| run.away("u1", 13_500, None)), (cut_off, false));
    let overtaken = NoticeCounts {
        notified: 4,
        resynchronised: 1,
        overtaken: 1,
        ..others
    };
    assert_eq!(
        notices(|run| {
            run.drop_messages("u1", "call_connected");
            run.away("u1", 900, Some(14_500));
            run.welcome(14_500, "u1", Value::Null);
        })
        .0,
        overtaken
    );
}

#[test]
fn a_clean_run_is_reported_as_clean() {
    let mut run = Run::clean();
    run.entries.faults.push(fault("SIGKILL", 4_000, 4_500));
    let report = run.check();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.calls, report.detected.one, report.detected.none), (2, 1, 1));
    assert_eq!(
        (report.ended.one, report.settled.one, report.notices.notified),
        (2, 2, 6)
    );
    assert_eq!((report.recovery.all.faults, report.recovery.all.max), (1, 0.0));
    let printed = report.to_string();
    assert!(
        printed.ends_with("clean") && printed.contains("6 due, 6 stored, 0 missing, 0 doubled"),
        "{printed}"
    );
    let json: Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!(json["ticks"]["due"], 6);
}

#[test]
fn a_minute_is_overdue_until_a_later_one_makes_up_for_it() {
    let mut run = Run::clean();
    let mut received = run.received.iter_mut();
    let first = received.find(|(_, party, _, message)| *party == "u1" && message["type"] == "tick");
    first.unwrap().0 += 8_000;
    let report = run.check();
    assert!(report.is_clean(), "{report}");
    let longest = report.recovery.without_fault.iter().map(|overdue| overdue.seconds);
    assert!((2.0..2.1).contains(&longest.fold(0.0, f64::max)), "{report}");
}

#[test]
fn a_finding_names_the_call_and_the_facts() {
    let mut run = Run::clean();
    run.repeat("c1", "ended");
    let printed = run.check().to_string();
    assert!(printed.contains("Repeated c1 [14, 15]: 2 times ended"), "{printed}");
    assert!(printed.ends_with("not clean"), "{printed}");
}
