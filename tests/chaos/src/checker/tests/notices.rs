//! What parties were told, and what they were not.

use serde_json::{Value, json};

use super::run::{Run, fault, standing, text, timestamp};
use super::{Case, assert_found};
use crate::records::run_log::Attempt;
use crate::report::Check::{NotTold, Recovery, Slow, ToldEarly, ToldLate, ToldStranger, ToldUntrue};
use crate::report::Check::{Undecided, Unreadable};
use crate::report::Telling;
use callpulse_tests::token::Role;

const UNTRUE: &[Case] = &[
    ("another beginning", &[ToldUntrue], |run| {
        told(run, "call_connected")["connectedAt"] = text(1_001)
    }),
    ("another method", &[ToldUntrue], |run| {
        told(run, "call_connected")["method"] = json!("said")
    }),
    (
        "a beginning with something more",
        &[Recovery, Unreadable, ToldLate],
        |run| told(run, "call_connected")["ssrc"] = json!(7),
    ),
    ("a connection of which nothing is stored", &[ToldUntrue], |run| {
        run.tell(
            1_500,
            "c2",
            "call_connected",
            json!({"connectedAt": text(1_400), "method": "sfu_rtp_detected"}),
        );
    }),
    ("a connection before it was stored", &[ToldEarly], |run| {
        run.fact("c1", "rtp_detected", 0).0 = 1_100
    }),
    ("another acceptance", &[ToldUntrue], |run| {
        told(run, "call_accepted")["acceptedAt"] = text(501)
    }),
    ("another caller", &[ToldUntrue], |run| {
        let incoming = run
            .told
            .iter_mut()
            .find(|told| told.3["type"] == "incoming_call")
            .unwrap();
        incoming.3["payload"]["userId"] = json!("u2");
    }),
    ("a tick that is not stored", &[ToldUntrue], |run| {
        told(run, "tick")["minute"] = json!(9)
    }),
    ("another time of a tick", &[ToldUntrue], |run| {
        told(run, "tick")["at"] = text(3_001)
    }),
    ("a tick before it was stored", &[ToldEarly], |run| {
        run.fact("c1", "tick", 0).0 = 3_100
    }),
    ("another bill", &[ToldUntrue], |run| {
        told(run, "call_ended")["billedMinutes"] = json!(2)
    }),
    ("another duration", &[ToldUntrue], |run| {
        told(run, "call_ended")["durationMs"] = json!(0)
    }),
    ("another end", &[ToldUntrue], |run| {
        told(run, "call_ended")["endedAt"] = text(8_001)
    }),
    ("another reason", &[ToldUntrue], |run| {
        told(run, "call_ended")["reason"] = json!("terminated")
    }),
    ("a call of others", &[ToldStranger], |run| {
        let tick = run.told.iter().find(|told| told.3["type"] == "tick").unwrap().clone();
        run.told.push((tick.0, "u2", Role::User, tick.3));
    }),
    ("a call that does not exist", &[ToldUntrue], |run| {
        told(run, "tick")["callId"] = json!("c9")
    }),
    ("a loss that was none", &[ToldUntrue], |run| {
        run.tell(6_000, "c1", "media_lost", json!({"party": "user"}))
    }),
    ("a loss before it was stored", &[ToldEarly], |run| {
        let lost = json!({"party": "user", "lastRtpAt": text(5_000), "gapMs": 900});
        let ended = run.place("c1", "ended");
        run.facts.insert(ended, Run::lost(6_100, lost));
        run.tell(6_000, "c1", "media_lost", json!({"party": "user"}));
    }),
    ("a snapshot of another beginning", &[ToldUntrue], |run| {
        snapshot(run, "connectedAt", text(1_001))
    }),
    ("a snapshot of another acceptance", &[ToldUntrue], |run| {
        snapshot(run, "acceptedAt", text(501))
    }),
    ("a snapshot in another state", &[ToldUntrue], |run| {
        snapshot(run, "state", json!("ringing"))
    }),
    ("a snapshot with a tick that is not stored", &[ToldUntrue], |run| {
        snapshot(run, "lastTick", json!({"minute": 2, "at": text(5_001)}));
    }),
    ("a snapshot with a tick before it was stored", &[ToldEarly], |run| {
        snapshot(run, "lastTick", json!({"minute": 3, "at": text(7_000)}));
    }),
    ("an answer with a call that is not stored", &[ToldUntrue], |run| {
        answer(run, json!({"callId": "c9", "expiresAt": text(1)}));
    }),
    ("an answer with another end", &[ToldUntrue], |run| {
        answer(run, json!({"callId": "c1", "endedAt": text(1)}));
    }),
    ("a notice without its fields", &[Unreadable], |run| {
        run.told
            .push((20, "u1", Role::User, json!({"type": "tick", "payload": {}})));
    }),
];

const UNTOLD: &[Case] = &[
    ("the end", &[NotTold], |run| run.silence("u1", "call_ended")),
    ("the end, with a snapshot of the call as it was", &[NotTold], |run| {
        run.silence("u1", "call_ended");
        run.welcome(15_000, "u1", standing());
    }),
    (
        "the end, for more than ten calm seconds",
        &[Recovery, ToldLate],
        |run| {
            run.silence("u1", "call_ended");
            run.welcome(24_100, "u1", Value::Null);
        },
    ),
    ("the end, for ten calm seconds after an outage", &[ToldLate], |run| {
        run.silence("u1", "call_ended");
        run.away("u1", 13_500, Some(16_000));
        run.welcome(26_001, "u1", Value::Null);
    }),
    ("the end, after an outage", &[NotTold], |run| {
        run.silence("u1", "call_ended");
        run.away("u1", 13_500, Some(16_000));
    }),
    ("the end, after a fault", &[NotTold], |run| {
        run.silence("u1", "call_ended");
        run.entries.faults = vec![fault("cut", 13_900, 20_000)];
    }),
    ("the end, without calm to judge by", &[Undecided], |run| {
        run.silence("u1", "call_ended");
        run.entries.faults = vec![fault("cut", 13_900, 31_000)];
    }),
    ("the end, in a run that was over at once", &[Undecided], |run| {
        run.silence("u1", "call_ended");
        run.entries.over_at = Some(timestamp(15_000));
    }),
    ("the beginning, before the end came", &[Recovery, ToldLate], |run| {
        run.silence("u1", "call_connected")
    }),
    ("anything of the call", &[NotTold], |run| {
        run.silence("u1", "call_connected");
        run.silence("u1", "call_ended");
    }),
];

const SLOW: &[Case] = &[
    ("an outage of 24 s", &[Slow], |run| {
        run.silence("u1", "call_ended");
        run.entries.faults.push(fault("SIGKILL", 4_900, 5_500));
        run.away("u1", 5_000, Some(29_000));
        run.welcome(29_000, "u1", Value::Null);
    }),
    ("an outage until the end", &[Recovery], |run| {
        run.silence("u1", "call_ended");
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
    let late = run.told.iter_mut().filter(|told| told.0 > 13_000);
    late.for_each(|told| told.0 += 12_000);
}

fn told<'a>(run: &'a mut Run, kind: &str) -> &'a mut Value {
    let mut told = run.told.iter_mut();
    let told = told.find(|(_, party, _, message)| *party == "u1" && message["type"] == kind);
    &mut told.unwrap().3["payload"]
}

fn snapshot(run: &mut Run, field: &str, value: Value) {
    let mut call = standing();
    call[field] = value;
    let message = json!({"type": "snapshot", "payload": {"activeCall": call}});
    run.told.push((6_000, "u1", Role::User, message));
}

fn answer(run: &mut Run, payload: Value) {
    let message = json!({"type": "response", "id": 1, "payload": payload});
    run.told.push((15_000, "u1", Role::User, message));
}

#[test]
fn what_is_told_and_not_so_is_found() {
    assert_found(UNTRUE);
}

#[test]
fn what_is_not_told_is_found() {
    assert_found(UNTOLD);
}

#[test]
fn a_slow_recovery_is_found() {
    assert_found(SLOW);
}

#[test]
fn who_was_told_otherwise_is_counted_apart() {
    let telling = |spoil: fn(&mut Run)| {
        let mut run = Run::clean();
        run.silence("u1", "call_ended");
        spoil(&mut run);
        let report = run.judge();
        (report.telling, report.is_clean())
    };
    // Two parties of two ends and one beginning.
    let others = Telling {
        told: 5,
        ..Telling::default()
    };
    let resynchronised = Telling {
        resynchronised: 1,
        ..others
    };
    assert_eq!(
        telling(|run| run.welcome(23_900, "u1", Value::Null)),
        (resynchronised, true)
    );
    assert_eq!(
        telling(|run| {
            run.away("u1", 13_500, Some(16_000));
            run.welcome(16_000, "u1", Value::Null);
        }),
        (resynchronised, true)
    );
    let cut_off = Telling { cut_off: 1, ..others };
    assert_eq!(telling(|run| run.away("u1", 13_500, None)), (cut_off, false));
    let overtaken = Telling {
        told: 4,
        resynchronised: 1,
        overtaken: 1,
        ..others
    };
    assert_eq!(
        telling(|run| {
            run.silence("u1", "call_connected");
            run.away("u1", 900, Some(14_500));
            run.welcome(14_500, "u1", Value::Null);
        })
        .0,
        overtaken
    );
}

#[test]
fn a_clean_run_is_clean_and_says_so() {
    let mut run = Run::clean();
    run.entries.faults.push(fault("SIGKILL", 4_000, 4_500));
    let report = run.judge();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.calls, report.detected.one, report.detected.none), (2, 1, 1));
    assert_eq!((report.ended.one, report.settled.one, report.telling.told), (2, 2, 6));
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
    let mut told = run.told.iter_mut();
    let first = told.find(|(_, party, _, message)| *party == "u1" && message["type"] == "tick");
    first.unwrap().0 += 8_000;
    let report = run.judge();
    assert!(report.is_clean(), "{report}");
    let longest = report.recovery.without_fault.iter().map(|overdue| overdue.seconds);
    assert!((2.0..2.1).contains(&longest.fold(0.0, f64::max)), "{report}");
}

#[test]
fn a_finding_names_the_call_and_the_facts() {
    let mut run = Run::clean();
    run.repeat("c1", "ended");
    let printed = run.judge().to_string();
    assert!(printed.contains("Repeated c1 [13, 14]: 2 times ended"), "{printed}");
    assert!(printed.ends_with("not clean"), "{printed}");
}
