//! A clean run: one connected call, one cancelled call.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::checker::{Evidence, Stored, check_run};
use crate::records::run_log::{Attempt, Entries, Fault, Outage, ReceivedMessage, Sent, Since};
use crate::report::Report;
use callpulse_tests::token::Role;

pub(super) const INTERVAL: Duration = Duration::from_secs(2);
const START_MS: u64 = 1_700_000_000_000;

/// Time of storage, subject, payload.
pub(super) type Fact = (i64, String, Value);

/// Times are in milliseconds since the beginning of the run.
pub(super) struct Run {
    pub(super) facts: Vec<Fact>,
    /// Subject and payload of messages after the facts.
    pub(super) raw: Vec<(&'static str, &'static str)>,
    pub(super) parked: Vec<(&'static str, &'static str)>,
    /// The sequence after this one is left out.
    pub(super) gap_after: Option<u64>,
    pub(super) received: Vec<(i64, &'static str, Role, Value)>,
    pub(super) entries: Entries,
}

pub(super) fn timestamp(ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(START_MS.checked_add_signed(ms).unwrap())
}

/// A time in the form of the contract.
pub(super) fn text(ms: i64) -> Value {
    let time = chrono::DateTime::<chrono::Utc>::from(timestamp(ms));
    json!(time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

pub(super) fn fault(what: &str, injected: i64, repaired: i64) -> Fault {
    Fault {
        what: what.to_owned(),
        target: "billing-timer-1".to_owned(),
        injected_at: timestamp(injected),
        repaired_at: Some(timestamp(repaired)),
        total: false,
        since: if what == "SIGKILL" {
            Since::Injection
        } else {
            Since::Repair
        },
    }
}

fn parties(call: &str) -> [&'static str; 2] {
    if call == "c1" { ["u1", "o1"] } else { ["u2", "o2"] }
}

impl Run {
    pub(super) fn clean() -> Self {
        let mut run = Self {
            facts: Vec::new(),
            raw: Vec::new(),
            parked: Vec::new(),
            gap_after: None,
            received: Vec::new(),
            entries: Entries::default(),
        };
        for party in ["u1", "o1", "u2", "o2"] {
            run.welcome(5, party, Value::Null);
        }
        run.ring("c1", 100);
        run.store(
            502,
            "c1",
            "accepted",
            json!({"acceptedAt": text(500), "workerId": "media-worker-1"}),
        );
        run.notify(510, "c1", "call_accepted", json!({"acceptedAt": text(500)}));
        run.sent("u1", 7, 999);
        run.sent("o1", 9, 1_200);
        run.detect(1_002, "c1", 1_000, 7);
        let started = json!({"party": "otomo", "at": text(1_201), "workerId": "media-worker-1", "ssrc": 9});
        run.store(1_203, "c1", "media_started", started);
        run.ring("c2", 1_100);
        run.end("c2", 2_000, "cancelled", Value::Null);
        run.notify(2_005, "c2", "call_ended", bill(2_000, "cancelled", 0, 0));
        run.settle("c2", 2_000, "cancelled", Value::Null, 0, 0);
        for minute in 1..=6 {
            run.tick(minute);
        }
        run.end("c1", 14_000, "hangup", text(1_000));
        run.settle("c1", 14_000, "hangup", text(1_000), 13_000, 6);
        run.notify(14_020, "c1", "call_ended", bill(14_000, "hangup", 13_000, 6));
        for (at, failed) in [(50, Some("unavailable".to_owned())), (90, None)] {
            run.entries.attempts.push(Attempt {
                began: timestamp(at),
                at: timestamp(at),
                party: "u1".to_owned(),
                step: "call_request",
                failed,
            });
        }
        run.entries.over_at = Some(timestamp(40_000));
        run
    }

    pub(super) fn check(mut self) -> Report {
        let mut sequence = 0;
        let raw = self.raw.into_iter();
        let raw = raw.map(|(subject, payload)| (39_000, subject.to_owned(), payload.as_bytes().to_vec()));
        let facts = self.facts.into_iter();
        let facts = facts.map(|(at, subject, body)| (at, subject, body.to_string().into_bytes()));
        let calls = facts.chain(raw).map(|(at, subject, payload)| {
            sequence += if self.gap_after == Some(sequence) { 2 } else { 1 };
            Stored {
                sequence,
                stored_at: timestamp(at).into(),
                subject,
                payload,
            }
        });
        let calls = calls.collect();
        let parked = self.parked.iter().map(|(subject, payload)| Stored {
            sequence: 1,
            stored_at: timestamp(39_000).into(),
            subject: (*subject).to_owned(),
            payload: payload.as_bytes().to_vec(),
        });
        let received = self
            .received
            .into_iter()
            .map(|(at, party, role, message)| ReceivedMessage {
                at: timestamp(at),
                role,
                party: party.to_owned(),
                message,
            });
        self.entries.received = received.collect();
        let evidence = Evidence {
            calls,
            parked: parked.collect(),
        };
        check_run(&evidence, &self.entries, INTERVAL)
    }

    /// The index of the first fact of a kind.
    pub(super) fn index(&self, call: &str, kind: &str) -> usize {
        let subject = format!("call.{call}.{kind}");
        self.facts.iter().position(|fact| fact.1 == subject).unwrap()
    }

    pub(super) fn fact(&mut self, call: &str, kind: &str, nth: usize) -> &mut Fact {
        let subject = format!("call.{call}.{kind}");
        self.facts.iter_mut().filter(|fact| fact.1 == subject).nth(nth).unwrap()
    }

    pub(super) fn drop_fact(&mut self, call: &str, kind: &str, nth: usize) {
        let subject = format!("call.{call}.{kind}");
        let places = self.facts.iter().enumerate().filter(|(_, fact)| fact.1 == subject);
        let (place, _) = places.into_iter().nth(nth).unwrap();
        self.facts.remove(place);
    }

    /// Stores a fact again, right after.
    pub(super) fn repeat(&mut self, call: &str, kind: &str) {
        let place = self.index(call, kind);
        self.facts.insert(place + 1, self.facts[place].clone());
    }

    pub(super) fn store(&mut self, at: i64, call: &str, kind: &str, fields: Value) {
        let fact = fact(at, call, kind, fields);
        self.facts.push(fact);
    }

    /// An `rtp_lost` of `c1`.
    pub(super) fn lost(at: i64, fields: Value) -> Fact {
        fact(at, "c1", "rtp_lost", fields)
    }

    /// `c2` is accepted.
    pub(super) fn accept_second(&mut self) {
        let fields = json!({"acceptedAt": text(1_200), "workerId": "media-worker-1"});
        let place = self.index("c2", "requested") + 1;
        self.facts.insert(place, fact(1_201, "c2", "accepted", fields));
        self.sent("u2", 8, 1_250);
    }

    pub(super) fn detect(&mut self, at: i64, call: &str, connected: i64, ssrc: u32) {
        let evidence = json!({"connectedAt": text(connected), "method": "sfu_rtp_detected", "detectedFrom": "user",
            "workerId": "media-worker-1", "producerId": "p", "ssrc": ssrc});
        self.store(at, call, "rtp_detected", evidence);
        let notice = json!({"connectedAt": text(connected), "method": "sfu_rtp_detected"});
        self.notify(at + 8, call, "call_connected", notice);
    }

    /// A minute of `c1`, right before its settlement.
    pub(super) fn tick_beyond_end(&mut self, minute: i64) {
        self.tick(minute);
        let tick = self.facts.pop().unwrap();
        let place = self.index("c1", "settled");
        self.facts.insert(place, tick);
    }

    pub(super) fn sent(&mut self, party: &str, ssrc: u32, at: i64) {
        self.entries.sent.push(Sent {
            party: party.to_owned(),
            ssrc,
            first_rtp_at: timestamp(at),
        });
    }

    /// Both parties receive a notice.
    pub(super) fn notify(&mut self, at: i64, call: &str, kind: &str, fields: Value) {
        let [user, otomo] = parties(call);
        let mut payload = fields;
        payload["callId"] = json!(call);
        if matches!(kind, "call_accepted" | "call_connected") {
            (payload["userId"], payload["otomoId"]) = (json!(user), json!(otomo));
        }
        let message = json!({"type": kind, "payload": payload});
        self.received.push((at, user, Role::User, message.clone()));
        self.received.push((at, otomo, Role::Otomo, message));
    }

    /// A party receives no message of a kind.
    pub(super) fn drop_messages(&mut self, party: &str, kind: &str) {
        self.received
            .retain(|(_, to, _, message)| *to != party || message["type"] != kind);
    }

    pub(super) fn welcome(&mut self, at: i64, party: &'static str, active_call: Value) {
        let role = if party.starts_with('u') {
            Role::User
        } else {
            Role::Otomo
        };
        let payload = json!({"sessionId": "ws_1", "activeCall": active_call});
        self.received
            .push((at, party, role, json!({"type": "welcome", "payload": payload})));
    }

    pub(super) fn away(&mut self, party: &str, from: i64, until: Option<i64>) {
        self.entries.outages.push(Outage {
            party: party.to_owned(),
            from: timestamp(from),
            until: until.map(timestamp),
        });
    }

    fn ring(&mut self, call: &str, at: i64) {
        let [user, otomo] = parties(call);
        self.store(at + 1, call, "requested", json!({"requestedAt": text(at)}));
        let answer = json!({"callId": call, "expiresAt": text(at + 30_000)});
        let response = json!({"type": "response", "id": 1, "payload": answer});
        self.received.push((at + 3, user, Role::User, response));
        let incoming = json!({"callId": call, "userId": user, "expiresAt": text(at + 30_000)});
        let incoming = json!({"type": "incoming_call", "payload": incoming});
        self.received.push((at + 3, otomo, Role::Otomo, incoming));
    }

    fn tick(&mut self, minute: i64) {
        let due = 1_000 + minute * 2_000;
        let tick = json!({"minute": minute, "at": text(due), "connectedAt": text(1_000)});
        self.store(due + 2, "c1", "tick", tick.clone());
        self.notify(due + 5, "c1", "tick", tick);
    }

    fn end(&mut self, call: &str, at: i64, reason: &str, connected_at: Value) {
        let ended = json!({"endedAt": text(at), "reason": reason, "by": "user", "connectedAt": connected_at});
        self.store(at + 2, call, "ended", ended);
    }

    fn settle(&mut self, call: &str, at: i64, reason: &str, connected_at: Value, duration_ms: i64, ticks: u64) {
        let settled = json!({"connectedAt": connected_at, "endedAt": text(at), "durationMs": duration_ms,
            "ticks": ticks, "billedMinutes": ticks, "reason": reason});
        self.store(at + 10, call, "settled", settled);
    }
}

/// The snapshot of `c1` after its second minute.
pub(super) fn snapshot_of_c1() -> Value {
    json!({"callId": "c1", "userId": "u1", "otomoId": "o1", "state": "connected", "requestedAt": text(100),
        "expiresAt": null, "acceptedAt": text(500), "connectedAt": text(1_000), "method": "sfu_rtp_detected",
        "lastTick": {"minute": 2, "at": text(5_000)}})
}

fn fact(at: i64, call: &str, kind: &str, mut fields: Value) -> Fact {
    let [user, otomo] = parties(call);
    fields["callId"] = json!(call);
    (fields["userId"], fields["otomoId"]) = (json!(user), json!(otomo));
    (at, format!("call.{call}.{kind}"), fields)
}

fn bill(ended: i64, reason: &str, duration_ms: i64, minutes: u64) -> Value {
    json!({"endedAt": text(ended), "reason": reason, "durationMs": duration_ms, "billedMinutes": minutes})
}
