//! A plan's events, set going: facts as workers and edges store them, and everything that breaks.

use std::time::Duration;

use async_nats::HeaderMap;
use billing_timer::world::Voice;
use contract::jetstream::fact_stream::Publication;
use contract::wire::command::Terminate;
use contract::wire::notice::Notice;
use contract::{CallId, Parties};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::core::{Core, Order, micros, moment};
use crate::network::{Sender, Weather};
use crate::plan::{Call, Fault};
use crate::server::Which;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

impl Core {
    /// Puts everything of the plan where it belongs in time.
    pub(crate) fn set_going(&mut self) {
        for call in self.plan.calls.clone() {
            if let (Some(connected), Some(stored)) = (call.connected, call.detected_stored) {
                self.store_at(stored, &call, "rtp_detected", detected(connected));
            }
            let connected = call.connected.filter(|_| call.told);
            let ended = ended(call.ended, call.reason, "worker", connected);
            self.store_at(call.ended_stored, &call, "ended", ended);
        }
        for (at, fault) in self.plan.faults.clone() {
            self.run_at(at, move |core| core.break_something(fault));
        }
        for site in 0..self.plan.instances {
            let starts = micros(Duration::from_millis(self.dice.below(3_000)));
            self.run_at(starts, move |core| core.orders.push(Order::Start(site)));
        }
        self.run_at(self.plan.calm_at, Core::calm_down);
    }

    fn store_at(&mut self, at_ms: i64, call: &Call, kind: &'static str, payload: Value) {
        let call = call.id.clone();
        let at = u64::try_from(at_ms).unwrap() * 1_000;
        self.run_at(at, move |core| core.store_fact(&call, kind, payload));
    }

    /// As somebody else's service does it: tried until it is answered.
    fn store_fact(&mut self, call: &str, kind: &'static str, payload: Value) {
        if self.now < self.server.stalled_until {
            let call = call.to_owned();
            let at = self.server.stalled_until + self.dice.below(50_000);
            self.run_at(at, move |core| core.store_fact(&call, kind, payload));
            return;
        }
        let mut payload = payload;
        for (field, value) in [("callId", call), ("userId", "u1"), ("otomoId", "o1")] {
            payload[field] = json!(value);
        }
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", TRACE);
        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        let publication = Publication {
            subject: format!("call.{call}.{kind}"),
            headers,
            payload: payload.to_string().into(),
        };
        // A refusal means that another one was faster.
        let _ = self.store(vec![publication], None);
    }

    fn break_something(&mut self, fault: Fault) {
        self.note("fault", 0, || format!("{fault:?}"));
        match fault {
            Fault::Crash(site, polls) => self.orders.push(Order::CrashAfter(site, polls)),
            Fault::Stop(site) => self.orders.push(Order::Stop(site)),
            Fault::Freeze(site, span) => {
                let until = self.now + micros(span);
                self.sites[site].frozen_until = until;
                self.run_at(until, move |core| core.note("thawed", 0, || format!("site {site}")));
            }
            Fault::Cut(site, span) => {
                self.cut(site);
                self.run_after(span, move |core| core.mend(site));
            }
            Fault::Gap(site) => {
                let hole = self.dice.per_mille(500);
                if hole {
                    self.server.deafen(site);
                }
                let noticed = self.dice.span(Duration::from_millis(1), Duration::from_secs(1));
                self.run_after(noticed, move |core| {
                    core.sites[site].link.send_modify(|link| link.gaps += 1)
                });
            }
            Fault::Weather(weather, span) => {
                self.plan.weather = weather;
                self.run_after(span, |core| core.plan.weather = Weather::default());
            }
            Fault::Stall(span) => self.server.stalled_until = self.now + micros(span),
            Fault::ClockJump(site, by) => self.sites[site].ahead_ms += by,
            Fault::LoseConsumer(deleted) => self.lose_consumer(deleted),
            Fault::EndWatchers(site) => {
                let which = if self.dice.per_mille(500) {
                    Which::Book
                } else {
                    Which::Leases
                };
                self.server.bucket(which).end_watchers(site);
            }
        }
    }

    /// Everything works again. What is under way still may come late.
    fn calm_down(&mut self) {
        self.note("calm", 0, || "nothing breaks any more".to_owned());
        self.plan.weather = Weather::default();
        self.server.stalled_until = self.now;
        for site in 0..self.sites.len() {
            self.mend(site);
            self.sites[site].frozen_until = self.now;
            self.sites[site].ahead_ms = 0;
        }
    }
}

fn detected(connected: i64) -> Value {
    json!({
        "connectedAt": moment(connected), "method": "sfu_rtp_detected", "detectedFrom": "user",
        "workerId": "mw1", "producerId": "p1", "ssrc": 1,
    })
}

fn ended(ended: i64, reason: &str, by: &str, connected: Option<i64>) -> Value {
    json!({ "endedAt": moment(ended), "reason": reason, "by": by, "connectedAt": connected.map(moment) })
}

/// What an instance says: heard by nobody here, but for the request to end a call.
#[derive(Debug)]
pub(crate) struct SimulatedVoice(pub(crate) Sender);

impl Voice for SimulatedVoice {
    fn tell_both<'a>(&'a self, parties: &'a Parties, notice: &'a Notice) -> BoxFuture<'a, ()> {
        async move {
            crate::site::breathe(&self.0.shared).await;
            let mut core = self.0.shared.lock();
            core.note("told", self.0.site as u64, || format!("{} {notice:?}", parties.call_id));
        }
        .boxed()
    }

    fn terminate<'a>(&'a self, call: &'a CallId, _: &'a Terminate) -> BoxFuture<'a, Result<(), String>> {
        let call = call.to_string();
        async move {
            let end = move |core: &mut Core| {
                let connected = core.plan.calls.iter().find(|known| known.id == call);
                let connected = connected.and_then(|known| known.connected);
                let now = i64::try_from(core.now / 1_000).unwrap();
                core.store_fact(&call, "ended", ended(now, "max_duration", "billing-timer", connected));
            };
            let answer = self.0.request("a request to end", Duration::from_secs(5), end).await;
            answer.map_err(|no_answer| format!("{no_answer:?}"))
        }
        .boxed()
    }
}
