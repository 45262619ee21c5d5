//! Facts: number, order, evidence, and form.

use serde_json::{Value, json};

use super::run::{Run, text, timestamp};
use super::{Case, assert_found};
use crate::report::Check::{Beginning, Evidence, Nothing, Order, Overflow, Parked, Repeated, StreamGap};
use crate::report::Check::{FalseNotice, NotEnded, NotRequested, NotSettled, Settlement, Unreadable};

const COUNTS: &[Case] = &[
    ("requested twice", &[Repeated], |run| run.repeat("c1", "requested")),
    ("accepted twice", &[Repeated], |run| run.repeat("c1", "accepted")),
    ("connected twice", &[Repeated], |run| run.repeat("c1", "rtp_detected")),
    ("ended twice", &[Repeated], |run| run.repeat("c1", "ended")),
    ("never ended", &[NotEnded, FalseNotice], |run| {
        run.drop_fact("c2", "ended", 0);
        run.drop_fact("c2", "settled", 0);
    }),
    ("never requested", &[NotRequested, FalseNotice], |run| {
        run.drop_fact("c2", "requested", 0)
    }),
];

const ORDER: &[Case] = &[
    ("requested after its end", &[Order], |run| {
        let requested = run.index("c2", "requested");
        let requested = run.facts.remove(requested);
        let settled = run.index("c2", "settled");
        run.facts.insert(settled, requested);
    }),
    ("settled before its end", &[Order], |run| {
        let ended = run.index("c2", "ended");
        let settled = run.index("c2", "settled");
        run.facts.swap(ended, settled);
    }),
    ("accepted after its end", &[Order], |run| {
        run.accept_second();
        let accepted = run.index("c2", "accepted");
        let accepted = run.facts.remove(accepted);
        let settled = run.index("c2", "settled");
        run.facts.insert(settled, accepted);
    }),
    ("connected before it was accepted", &[Order], |run| {
        let accepted = run.index("c1", "accepted");
        let detected = run.index("c1", "rtp_detected");
        run.facts.swap(accepted, detected);
    }),
    ("never accepted", &[Order, FalseNotice], |run| {
        run.drop_fact("c1", "accepted", 0)
    }),
    ("connected after it was over", &[Order], |run| {
        run.accept_second();
        run.detect(2_200, "c2", 2_100, 8);
    }),
    ("RTP comes back after the end", &[Order], |run| {
        let resumed = json!({"party": "user", "at": text(14_100), "gapMs": 100});
        run.store(14_101, "c1", "rtp_resumed", resumed);
    }),
    ("ended before it began", &[Order], |run| {
        // The stream has the same order, and no tick is due.
        run.fact("c1", "ended", 0).2["endedAt"] = text(999);
        let settled = &mut run.fact("c1", "settled", 0).2;
        (settled["endedAt"], settled["durationMs"]) = (text(999), json!(0));
        (settled["ticks"], settled["billedMinutes"], settled["overTicks"]) = (json!(0), json!(0), json!(6));
        let notices = run
            .received
            .iter_mut()
            .filter(|notice| notice.3["type"] == "call_ended" && notice.3["payload"]["callId"] == "c1");
        notices.for_each(|notice| {
            let payload = &mut notice.3["payload"];
            (payload["endedAt"], payload["durationMs"], payload["billedMinutes"]) = (text(999), json!(0), json!(0));
        });
    }),
    ("the end knows of another beginning", &[Beginning], |run| {
        run.fact("c1", "ended", 0).2["connectedAt"] = text(1_001);
    }),
    ("the end knows of no beginning", &[Beginning], |run| {
        run.fact("c1", "ended", 0).2["connectedAt"] = Value::Null;
    }),
    (
        "the end knows of a beginning that was none",
        &[Beginning, FalseNotice],
        |run| {
            run.fact("c2", "ended", 0).2["connectedAt"] = text(1_200);
        },
    ),
];

const EVIDENCE: &[Case] = &[
    ("no media was sent", &[Evidence], |run| run.entries.sent.clear()),
    ("an unknown SSRC", &[Evidence], |run| detected(run, "ssrc", json!(8))),
    ("the SSRC of the other party", &[Evidence], |run| {
        detected(run, "detectedFrom", json!("otomo"))
    }),
    ("the SSRC of a party of another call", &[Evidence], |run| {
        run.entries.sent[0].party = "u2".to_owned()
    }),
    ("the first packet was sent later", &[Evidence], |run| {
        run.entries.sent[0].first_rtp_at = timestamp(1_006)
    }),
    ("no producer", &[Evidence], |run| detected(run, "producerId", json!(""))),
    ("another worker", &[Evidence], |run| {
        detected(run, "workerId", json!("media-worker-2"))
    }),
    ("another method", &[Evidence], |run| {
        detected(run, "method", json!("client_reported"))
    }),
    ("a second party that did not send", &[Evidence], |run| {
        run.fact("c1", "media_started", 0).2["ssrc"] = json!(7);
    }),
    ("a second party before its first packet", &[Evidence], |run| {
        run.fact("c1", "media_started", 0).2["at"] = text(1_100);
    }),
    ("a second party on another worker", &[Evidence], |run| {
        run.fact("c1", "media_started", 0).2["workerId"] = json!("media-worker-2");
    }),
    ("the same party as the second one", &[Evidence], |run| {
        run.fact("c1", "media_started", 0).2["party"] = json!("user");
    }),
];

const UNREADABLE: &[Case] = &[
    ("not JSON", &[Unreadable], |run| run.raw.push(("call.c1.tick", "{"))),
    ("not the subject of a fact", &[Unreadable], |run| {
        run.raw.push(("call.c1.tick.more", "{}"))
    }),
    (
        "a time without milliseconds",
        &[NotRequested, Unreadable, FalseNotice],
        |run| {
            run.fact("c2", "requested", 0).2["requestedAt"] = json!("2023-11-14T22:13:20Z");
        },
    ),
    (
        "a reason that the settlement does not have",
        &[Settlement, FalseNotice],
        |run| {
            run.fact("c2", "ended", 0).2["reason"] = json!("boredom");
        },
    ),
    ("a missing field", &[NotEnded, Unreadable, FalseNotice], |run| {
        run.fact("c2", "ended", 0)
            .2
            .as_object_mut()
            .unwrap()
            .remove("connectedAt");
    }),
    ("another call in the payload", &[NotSettled, Unreadable], |run| {
        run.fact("c2", "settled", 0).2["callId"] = json!("c1");
    }),
    ("other parties in the payload", &[NotSettled, Unreadable], |run| {
        run.fact("c2", "settled", 0).2["userId"] = json!("u1");
    }),
    ("a gap in the stream", &[StreamGap], |run| run.gap_after = Some(2)),
    ("the first message is missing", &[StreamGap], |run| {
        run.gap_after = Some(0)
    }),
    ("a parked message", &[Parked], |run| {
        run.parked.push(("parked.billing-timer.billing-timer", "why"))
    }),
    ("an overflowed run log", &[Overflow], |run| run.entries.lost = 1),
    ("no received message", &[Nothing], |run| run.received.clear()),
    ("nothing stored", &[Nothing], |run| {
        run.facts.clear();
        run.received.retain(|(_, _, _, message)| message["type"] == "welcome");
    }),
];

fn detected(run: &mut Run, field: &str, value: Value) {
    run.fact("c1", "rtp_detected", 0).2[field] = value;
}

#[test]
fn wrong_counts_are_found() {
    assert_found(COUNTS);
}

#[test]
fn a_wrong_order_is_found() {
    assert_found(ORDER);
}

#[test]
fn a_connection_without_evidence_is_found() {
    assert_found(EVIDENCE);
}

#[test]
fn a_malformed_message_is_found() {
    assert_found(UNREADABLE);
}

#[test]
fn kinds_fields_and_reasons_of_a_later_version_are_no_finding() {
    let mut run = Run::clean();
    run.store(1, "c1", "charged", json!({}));
    run.raw.push(("call.c1.sung", "la la"));
    for (_, subject, payload) in &mut run.facts {
        payload["mood"] = json!({"is": "good"});
        if subject == "call.c2.ended" || subject == "call.c2.settled" {
            payload["reason"] = json!("boredom");
        }
    }
    for (.., message) in &mut run.received {
        let payload = &mut message["payload"];
        if payload["callId"] == "c2" && message["type"] == "call_ended" {
            message["payload"]["reason"] = json!("boredom");
        }
    }
    let report = run.check();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.unknown, 2);
}

#[test]
fn a_lost_worker_may_store_its_facts_late() {
    let mut run = Run::clean();
    run.accept_second();
    run.fact("c2", "ended", 0).2["reason"] = json!("worker_lost");
    run.fact("c2", "settled", 0).2["reason"] = json!("worker_lost");
    run.drop_messages("u2", "call_ended");
    run.drop_messages("o2", "call_ended");
    run.welcome(2_030, "u2", Value::Null);
    run.welcome(2_030, "o2", Value::Null);
    run.detect(2_200, "c2", 2_100, 8);
    run.store(
        2_300,
        "c2",
        "rtp_lost",
        json!({"party": "user", "lastRtpAt": text(2_250), "gapMs": 50}),
    );
    let report = run.check();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.detected.one, 2);
}
