//! Schedules a plan's events: the facts that workers and edges store, and the faults.

use std::time::Duration;

use async_nats::HeaderMap;
use billing_timer::notices::Notices;
use billing_timer::termination::Terminations;
use contract::jetstream::fact_stream::Publication;
use contract::wire::command::Terminate;
use contract::wire::notice::Notice;
use contract::{CallId, Parties};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::core::host::yield_at_random;
use crate::core::network::Sender;
use crate::core::server::BucketName;
use crate::core::{Core, Order};
use crate::plan::{Call, Fault, NetworkConditions};
use crate::time::{micros, timestamp};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

impl Core {
    /// Schedules all events of the plan.
    pub(crate) fn schedule_plan(&mut self) {
        for call in self.plan.calls.clone() {
            let first = call
                .detected_stored
                .map_or(call.ended_stored, |detected| detected.min(call.ended_stored));
            let mut requested = json!({ "requestedAt": timestamp(0) });
            if let Some(grant) = call.grants.first() {
                (requested["untilMs"], requested["grantId"]) = (json!(grant.until_ms), json!("g0"));
            }
            // Long before the call is connected.
            self.store_at(0, &call, "requested", with_terms(requested, &call));
            if let (Some(connected), Some(stored)) = (call.connected, call.detected_stored) {
                self.store_at(
                    stored,
                    &call,
                    "rtp_detected",
                    with_terms(detected(connected + call.ahead_ms), &call),
                );
            }
            for (number, grant) in call.grants.iter().enumerate().skip(1) {
                let granted =
                    json!({ "grantId": format!("g{number}"), "untilMs": grant.until_ms, "grantedAt": timestamp(0) });
                let at = grant.stored.clamp(first, call.ended_stored.max(first));
                self.store_at(at, &call, "credit_granted", granted);
            }
            for sound in &call.sounds {
                let at = sound
                    .at
                    .map_or(first, |at| at.clamp(first, call.ended_stored.max(first)));
                let (kind, field) = if sound.lost {
                    ("rtp_lost", "lastRtpAt")
                } else {
                    ("rtp_resumed", "at")
                };
                let payload = json!({ "party": sound.party, field: sound.at.map(|at| timestamp(at + call.ahead_ms)), "gapMs": 5_000 });
                self.store_at(at, &call, kind, payload);
            }
            let connected = call.connected.filter(|_| call.end_knows_start);
            let connected = connected.map(|connected| connected + call.ahead_ms);
            let mut ended = ended(call.ended + call.ahead_ms, call.reason, "worker", connected);
            if let Some(measured_ms) = call.measured_ms {
                ended["durationMs"] = json!(measured_ms);
            }
            self.store_at(call.ended_stored, &call, "ended", with_terms(ended, &call));
        }
        for (at, fault) in self.plan.faults.clone() {
            self.run_at(at, move |core| core.inject(fault));
        }
        for host in 0..self.plan.instances {
            let starts = micros(Duration::from_millis(self.rng.below(3_000)));
            self.run_at(starts, move |core| core.orders.push(Order::Start(host)));
        }
        self.run_at(self.plan.faults_end_at, Core::end_faults);
    }

    fn store_at(&mut self, at_ms: i64, call: &Call, kind: &'static str, payload: Value) {
        let call = call.id.clone();
        let at = u64::try_from(at_ms).unwrap() * 1_000;
        self.run_at(at, move |core| core.store_fact(&call, kind, payload));
    }

    /// Stores a fact of another service, which retries until it is acknowledged.
    fn store_fact(&mut self, call: &str, kind: &'static str, payload: Value) {
        if self.now < self.server.stalled_until {
            let call = call.to_owned();
            let at = self.server.stalled_until + self.rng.below(50_000);
            self.run_at(at, move |core| core.store_fact(&call, kind, payload));
            return;
        }
        let mut payload = payload;
        for (field, value) in [("callId", call), ("userId", "u1"), ("otomoId", "o1")] {
            payload[field] = json!(value);
        }
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", TRACE);
        if !["rtp_lost", "rtp_resumed", "credit_granted"].contains(&kind) {
            headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        }
        // The media-worker measures it by its own clocks.
        if kind == "rtp_detected"
            && let Some(connected) = self
                .plan
                .calls
                .iter()
                .find(|known| known.id == call)
                .and_then(|known| known.connected)
        {
            let age = i64::try_from(self.now / 1_000).unwrap() - connected;
            headers.insert("callpulse-age-ms", age.to_string());
        }
        let publication = Publication {
            subject: format!("call.{call}.{kind}"),
            headers,
            payload: payload.to_string().into(),
        };
        // A rejection means that another publisher was first.
        let _ = self.store(vec![publication], None);
    }

    fn inject(&mut self, fault: Fault) {
        self.note("fault", 0, || format!("{fault:?}"));
        match fault {
            Fault::Crash(host, polls) => self.orders.push(Order::CrashAfter(host, polls)),
            Fault::Stop(host) => self.orders.push(Order::Stop(host)),
            Fault::Freeze(host, span) => {
                let until = self.now + micros(span);
                self.hosts[host].frozen_until = until;
                self.run_at(until, move |core| core.note("thawed", 0, || format!("host {host}")));
            }
            Fault::Disconnect(host, span) => {
                self.disconnect(host);
                self.run_after(span, move |core| core.reconnect(host));
            }
            Fault::Gap(host) => {
                let which = self.random_bucket();
                self.server.bucket(which).mark_gap(host);
                let noticed = self.rng.span(Duration::from_millis(1), Duration::from_secs(1));
                self.run_after(noticed, move |core| {
                    core.hosts[host].nats_state.send_modify(|state| state.overflows += 1);
                    core.server.bucket(which).end_watchers(host);
                });
            }
            Fault::NetworkConditions(network_conditions, span) => {
                self.plan.network_conditions = network_conditions;
                self.run_after(span, |core| core.plan.network_conditions = NetworkConditions::default());
            }
            Fault::Stall(span) => {
                self.server.stalled_until = self.now + micros(span);
                self.server.leader += 1;
            }
            Fault::ClockJump(host, by) => self.hosts[host].ahead_ms += by,
            Fault::LoseConsumer(deleted) => self.lose_consumer(deleted),
            Fault::EndWatchers(host) => {
                let which = self.random_bucket();
                self.server.bucket(which).end_watchers(host);
            }
        }
    }

    fn random_bucket(&mut self) -> BucketName {
        if self.rng.per_mille(500) {
            BucketName::ActiveBilling
        } else {
            BucketName::Leases
        }
    }

    /// Ends all faults. Messages in flight may still arrive late.
    fn end_faults(&mut self) {
        self.note("faults_end", 0, || "all faults end".to_owned());
        self.plan.network_conditions = NetworkConditions::default();
        self.server.stalled_until = self.now;
        for host in 0..self.hosts.len() {
            self.reconnect(host);
            self.hosts[host].frozen_until = self.now;
            self.hosts[host].ahead_ms = 0;
        }
    }
}

fn with_terms(mut payload: Value, call: &Call) -> Value {
    if let Some(terms) = call.terms {
        payload["terms"] = json!({
            "termsId": "t", "intervalMs": terms.interval_ms, "charge": terms.charge, "freeMs": terms.free_ms,
            "minimumMs": terms.minimum_ms, "silence": terms.silence,
        });
    }
    payload
}

fn detected(connected: i64) -> Value {
    json!({
        "connectedAt": timestamp(connected), "method": "sfu_rtp_detected", "detectedFrom": "user",
        "workerId": "mw1", "producerId": "p1", "ssrc": 1,
    })
}

fn ended(ended: i64, reason: &str, by: &str, connected: Option<i64>) -> Value {
    json!({ "endedAt": timestamp(ended), "reason": reason, "by": by, "connectedAt": connected.map(timestamp) })
}

/// Notices, which are only traced, and requests to end a call.
#[derive(Debug)]
pub(crate) struct SimulatedNotices(pub(crate) Sender);

impl Notices for SimulatedNotices {
    fn send_to_both<'a>(&'a self, parties: &'a Parties, notice: &'a Notice) -> BoxFuture<'a, ()> {
        async move {
            yield_at_random(&self.0.shared).await;
            let mut core = self.0.shared.lock();
            core.note("notice", self.0.host as u64, || {
                format!("{} {notice:?}", parties.call_id)
            });
        }
        .boxed()
    }
}

impl Terminations for SimulatedNotices {
    fn request<'a>(&'a self, call: &'a CallId, _: &'a Terminate) -> BoxFuture<'a, Result<(), String>> {
        let call = call.to_string();
        async move {
            let end = move |core: &mut Core| {
                let connected = core.plan.calls.iter().find(|known| known.id == call);
                let now = i64::try_from(core.now / 1_000).unwrap();
                let ahead_ms = connected.map_or(0, |known| known.ahead_ms);
                let start = connected.and_then(|known| known.connected);
                let start = start.map(|start| start + ahead_ms);
                let mut ended = ended(now + ahead_ms, "max_duration", "billing-timer", start);
                if let Some(known) = connected {
                    ended = with_terms(ended, known);
                }
                core.store_fact(&call, "ended", ended);
            };
            let answer = self.0.request("a request to end", Duration::from_secs(5), end).await;
            answer.map_err(|no_answer| format!("{no_answer:?}"))
        }
        .boxed()
    }
}
