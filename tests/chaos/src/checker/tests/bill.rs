//! Bills by terms, silence and grants, and calls whose worker's clock has stepped.

use serde_json::{Value, json};

use super::run::{Run, fault, text, timestamp};
use crate::records::run_log::{Attempt, ClockStep, Fault, Heard, SentGrant};
use crate::report::Check::{self, Credit, Duration, Evidence, FalseNotice, Settlement, TickEarly, TickTime};

/// The clean run, with a bill that follows from terms, two silences and grants: 13 s, of which 2 s are free and 3.5 s without the otomo.
fn billed() -> Run {
    let mut run = Run::clean();
    let terms = json!({"termsId": "night", "intervalMs": 2_000, "charge": "start", "freeMs": 2_000, "minimumMs": 1_000,
        "silence": "deduct_otomo"});
    set(&mut run, "requested", "terms", terms.clone());
    set(&mut run, "requested", "untilMs", json!(14_000));
    set(&mut run, "requested", "grantId", json!("g-0"));
    for (party, from, to) in [("otomo", 3_000, 6_500), ("user", 8_000, 9_000)] {
        insert(
            &mut run,
            to - 100,
            "rtp_lost",
            json!({"party": party, "lastRtpAt": text(from), "gapMs": 3_400}),
        );
        insert(
            &mut run,
            to,
            "rtp_resumed",
            json!({"party": party, "at": text(to), "gapMs": 3_500}),
        );
    }
    insert(
        &mut run,
        12_000,
        "credit_low",
        json!({"grantId": "g-0", "remainingMs": 3_000, "untilMs": 14_000}),
    );
    insert(
        &mut run,
        12_500,
        "credit_granted",
        json!({"grantId": "g-1", "untilMs": 18_000}),
    );
    set(&mut run, "ended", "durationMs", json!(13_000));
    for (field, value) in [
        ("billedMs", json!(7_500)),
        ("billedMinutes", json!(4)),
        ("silentMs", json!({"user": 1_000, "otomo": 3_500})),
        ("untilMs", json!(18_000)),
        ("terms", terms),
    ] {
        set(&mut run, "settled", field, value);
    }
    for (.., message) in &mut run.received {
        if message["type"] == "call_ended" && message["payload"]["callId"] == "c1" {
            message["payload"]["billedMinutes"] = json!(4);
        }
    }
    run.entries.heard.push(Heard {
        call: "c1".to_owned(),
        party: "u1".to_owned(),
        sent_at: timestamp(13_980),
    });
    run
}

fn set(run: &mut Run, kind: &str, field: &str, value: Value) {
    run.fact("c1", kind, 0).2[field] = value;
}

/// Stores a fact of `c1` before its end.
fn insert(run: &mut Run, at: i64, kind: &str, fields: Value) {
    run.store(at, "c1", kind, fields);
    let fact = run.facts.pop().unwrap();
    let place = run.index("c1", "ended");
    run.facts.insert(place, fact);
}

fn found(change: impl FnOnce(&mut Run)) -> Vec<Check> {
    let mut run = billed();
    change(&mut run);
    let report = run.check();
    report.counts.keys().copied().collect()
}

#[test]
fn a_bill_that_follows_from_the_facts_is_clean() {
    let report = billed().check();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.unknown, 0);
}

#[test]
fn every_altered_field_of_a_bill_is_found() {
    for (field, value) in [
        ("billedMs", json!(7_499)),
        ("billedMs", Value::Null),
        ("silentMs", json!({"user": 0, "otomo": 3_500})),
        ("silentMs", json!({"user": 1_000, "otomo": 3_501})),
        ("untilMs", json!(14_000)),
        ("untilMs", Value::Null),
        ("terms", Value::Null),
        ("ticks", json!(5)),
    ] {
        let altered = found(|run| set(run, "settled", field, value.clone()));
        assert_eq!(altered, [Settlement], "{field}: {value}");
    }
    let longer = found(|run| set(run, "settled", "durationMs", json!(13_001)));
    assert_eq!(longer, [Settlement, FalseNotice]);
    let more = found(|run| set(run, "settled", "billedMinutes", json!(5)));
    assert_eq!(more, [Settlement, FalseNotice]);
    for (field, value) in [
        ("termsId", json!("day")),
        ("charge", json!("full")),
        ("freeMs", json!(0)),
        ("minimumMs", json!(0)),
        ("silence", json!("bill")),
    ] {
        let altered = found(|run| run.fact("c1", "settled", 0).2["terms"][field] = value.clone());
        assert_eq!(altered, [Settlement], "{field}: {value}");
    }
}

#[test]
fn every_altered_fact_behind_a_bill_is_found() {
    let no_silence = found(|run| run.drop_fact("c1", "rtp_lost", 0));
    assert_eq!(no_silence, [Settlement]);
    let other_grant = found(|run| set(run, "credit_granted", "untilMs", json!(16_000)));
    assert_eq!(other_grant, [Settlement]);
    let other_terms = found(|run| run.fact("c1", "requested", 0).2["terms"]["freeMs"] = json!(4_000));
    assert_eq!(other_terms, [Settlement]);
    let other_duration = found(|run| set(run, "ended", "durationMs", json!(12_000)));
    assert_eq!(other_duration, [Settlement]);
}

#[test]
fn media_and_bills_beyond_the_grants_are_found() {
    let late = found(|run| run.entries.heard[0].sent_at = timestamp(19_106));
    assert_eq!(late, [Credit], "granted until 19 s");
    let on_time = found(|run| run.entries.heard[0].sent_at = timestamp(19_104));
    let not_stored = |until_ms: i64| {
        found(|run| {
            run.entries.heard[0].sent_at = timestamp(20_500);
            run.entries.grants.push(SentGrant {
                call: "c1".to_owned(),
                until_ms,
                at: timestamp(14_000),
            });
        })
    };
    assert_eq!(
        (not_stored(20_000), not_stored(18_000)),
        (vec![], vec![Credit]),
        "a grant of the wallet"
    );
    assert!(on_time.is_empty(), "{on_time:?}");
    let shorter = found(|run| set(run, "credit_granted", "untilMs", json!(12_000)));
    assert!(shorter.contains(&Credit), "{shorter:?}");
    let billed_beyond = found(|run| {
        run.drop_fact("c1", "credit_granted", 0);
        set(run, "requested", "untilMs", json!(6_000));
    });
    assert!(billed_beyond.contains(&Credit), "{billed_beyond:?}");
}

#[test]
fn a_worker_without_nats_is_no_excuse_for_media_beyond_the_grants() {
    let cut_off = |what: &'static str, repaired: i64, sent_at: i64| {
        let mut run = billed();
        run.entries.heard[0].sent_at = timestamp(sent_at);
        run.entries.faults.push(Fault {
            target: "media-worker-1".to_owned(),
            ..fault(what, 12_600, repaired)
        });
        let report = run.check();
        (report.counts.contains_key(&Credit), report.credit.heard_without_nats)
    };
    for what in ["worker-cut", "worker-stall", "worker-isolate"] {
        assert_eq!(cut_off(what, 20_000, 18_900), (false, 1), "granted until 19 s");
        assert_eq!(cut_off(what, 20_000, 19_900), (true, 1));
        assert_eq!(cut_off(what, 18_000, 18_900), (false, 0), "back before the end");
        assert_eq!(cut_off(what, 20_000, 14_000), (false, 0), "not heard so long");
    }
}

fn hang_up(run: &mut Run, began: i64) {
    run.entries.attempts.push(Attempt {
        began: timestamp(began),
        at: timestamp(began + 5),
        party: "u1".to_owned(),
        step: "call_hangup",
        failed: None,
    });
}

#[test]
fn a_duration_that_no_true_clock_confirms_is_found() {
    let confirmed = found(|run| hang_up(run, 13_990));
    assert!(confirmed.is_empty(), "{confirmed:?}");
    let shift = |run: &mut Run, ms: i64| {
        // As a service with a stepped clock would have measured it.
        set(run, "ended", "durationMs", json!(13_000 + ms));
        set(run, "ended", "endedAt", text(14_000 + ms));
        set(run, "settled", "durationMs", json!(13_000 + ms));
        set(run, "settled", "endedAt", text(14_000 + ms));
    };
    let longer = found(|run| shift(run, 20_000));
    assert!(longer.contains(&Duration), "{longer:?}");
    let shorter = found(|run| {
        hang_up(run, 13_990);
        shift(run, -11_500);
    });
    assert!(shorter.contains(&Duration), "{shorter:?}");
}

#[test]
fn a_duration_beyond_the_life_of_the_worker_is_found() {
    let killed = |target: &str, at: i64| Fault {
        target: target.to_owned(),
        ..fault("worker-kill", at, at + 2_000)
    };
    let beyond = |target: &'static str, at| found(move |run| run.entries.faults.push(killed(target, at)));
    assert_eq!(beyond("media-worker-1", 9_000), [Duration]);
    assert_eq!(beyond("media-worker-1", 13_600), [], "before its last heartbeat");
    assert_eq!(beyond("media-worker-2", 9_000), []);
    assert_eq!(beyond("media-worker-1", 900), [], "before the call");
    let frozen = found(|run| {
        run.entries.faults.push(Fault {
            target: "media-worker-1".to_owned(),
            ..fault("worker-freeze", 9_000, 11_000)
        });
    });
    assert_eq!(frozen, []);
}

/// The clean run as a worker writes it whose clock is 20 s ahead.
fn ahead() -> Run {
    let mut run = Run::clean();
    let moved = |value: &mut Value, field: &str| {
        let Some(time) = value[field].as_str() else { return };
        let time: chrono::DateTime<chrono::Utc> = time.parse().unwrap();
        let time = time + chrono::TimeDelta::seconds(20);
        value[field] = json!(time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
    };
    for (_, subject, body) in run.facts.iter_mut().filter(|fact| fact.1.starts_with("call.c1.")) {
        if ["rtp_detected", "media_started", "tick", "ended", "settled"]
            .iter()
            .any(|kind| subject.ends_with(kind))
        {
            ["connectedAt", "at", "endedAt"]
                .into_iter()
                .for_each(|field| moved(body, field));
        }
    }
    for (.., message) in &mut run.received {
        if message["payload"]["callId"] == "c1" {
            let payload = &mut message["payload"];
            ["connectedAt", "at", "endedAt"]
                .into_iter()
                .for_each(|field| moved(payload, field));
        }
    }
    run.entries.clock_steps.push(ClockStep {
        process: "media-worker-1".to_owned(),
        at: timestamp(400),
        offset_ms: 20_000,
    });
    run
}

#[test]
fn ticks_and_evidence_are_judged_by_true_clocks() {
    let report = ahead().check();
    assert!(report.is_clean(), "{report}");
    let mut early = ahead();
    early.fact("c1", "tick", 1).0 = 4_994;
    let counts = early.check().counts;
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [TickEarly]);
    let mut unproven = ahead();
    unproven.entries.sent.retain(|sent| sent.party != "u1");
    unproven.sent("u1", 7, 1_100);
    assert!(unproven.check().counts.contains_key(&Evidence));
    // A clock that has not stepped explains nothing.
    let mut unexplained = ahead();
    unexplained.entries.clock_steps.clear();
    assert!(unexplained.check().counts.contains_key(&TickEarly));
    let mut other = ahead();
    other.fact("c1", "tick", 1).2["at"] = text(5_000);
    assert!(other.check().counts.contains_key(&TickTime));
}
