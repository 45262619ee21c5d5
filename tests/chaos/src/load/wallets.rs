//! The wallet of the load: grants time to each call, extends it when its credit is low, and lets the credit of some calls run out.
//!
//! Several run at once, each on its own nats-server. They decide by the call's ID alone, so it does not matter which one is heard, or
//! how often.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use async_nats::{Client, ConnectOptions, Subscriber};
use contract::jetstream::request;
use contract::wire::command::ExtendCall;
use contract::wire::credit::Grant;
use contract::wire::subject;
use contract::{CallId, FactKind, TraceParent};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::records::run_log::{RunLog, SentGrant};
use crate::rng::Rng;
use callpulse_tests::servers::nats_server::NatsServer;

const USER: &str = "wallet";
/// Separates the random numbers of credit from those of calls and faults.
const CREDIT: u64 = 3;
/// The same, of terms.
const TERMS: u64 = 4;
/// More intervals than a run has.
const PLENTY: u64 = 1_800;
/// Extensions in progress.
const MAX_EXTENSIONS: usize = 64;
/// The deadline of an extension.
const EXTENDED_WITHIN: Duration = Duration::from_secs(3);
/// Finds a dead server soon.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Running wallets. Dropping it stops them.
#[derive(Debug)]
pub struct Wallets {
    _running: JoinSet<()>,
}

/// The grants of one call, in intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CreditPlan {
    first: u64,
    renewal: u64,
    renewals: u64,
}

impl Wallets {
    /// Starts one for each nats-server.
    pub async fn start(nats: &NatsServer, interval: Duration, run_log: &RunLog) -> Result<Self> {
        let (password, interval_ms) = (nats.password(USER)?, interval.as_millis() as u64);
        let mut running = JoinSet::new();
        for port in nats.ports() {
            let options = ConnectOptions::with_user_and_password(USER.to_owned(), password.to_owned())
                .ping_interval(PING_INTERVAL)
                .ignore_discovered_servers();
            let client = options.connect(format!("127.0.0.1:{port}")).await?;
            let questions = client.subscribe(subject::AUTHORIZE).await?;
            let low = client.subscribe(subject::facts_of_kind(FactKind::CreditLow)).await?;
            client.flush().await?;
            running.spawn(authorize(client.clone(), questions, interval_ms));
            running.spawn(extend(client, low, interval_ms, run_log.clone()));
        }
        Ok(Self { _running: running })
    }
}

async fn authorize(client: Client, mut questions: Subscriber, interval_ms: u64) {
    while let Some(question) = questions.next().await {
        let body: Value = serde_json::from_slice(&question.payload).unwrap_or_default();
        let call = body.get("callId").and_then(Value::as_str).unwrap_or_default();
        let until_ms = CreditPlan::of(call).first * interval_ms;
        // Null: the terms of the edge.
        let terms = terms(call, interval_ms);
        let answer = json!({ "allow": true, "grantId": "grant-0", "untilMs": until_ms, "terms": terms });
        if let Some(reply) = question.reply {
            let _ = client.publish(reply, answer.to_string().into()).await; // ws-edge denies the call
        }
    }
}

/// The terms of a third of the calls. The others have those of their edge.
fn terms(call: &str, interval_ms: u64) -> Option<Value> {
    let mut rng = rng(call, TERMS);
    let (charge, silence) = (rng.below(2), rng.below(3));
    let free_ms = rng.below(2) * interval_ms / 2;
    rng.chance(33).then(|| {
        json!({
            "termsId": "wallet",
            "intervalMs": interval_ms,
            "charge": if charge == 0 { "full" } else { "start" },
            "freeMs": free_ms,
            "minimumMs": interval_ms * 2,
            "silence": match silence {
                0 => "bill",
                1 => "deduct_otomo",
                _ => "deduct_any",
            },
        })
    })
}

/// The random numbers of a call.
fn rng(call: &str, purpose: u64) -> Rng {
    let seed = call.bytes().fold(0_u64, |hash, byte| {
        hash.wrapping_mul(0x100_0000_01B3).wrapping_add(u64::from(byte))
    });
    Rng::new(seed, &[purpose])
}

async fn extend(client: Client, low: Subscriber, interval_ms: u64, run_log: RunLog) {
    let extend = async |message: async_nats::Message| {
        let call = subject::call_of_fact(&message.subject)?;
        let body: Value = serde_json::from_slice(&message.payload).ok()?;
        let until_ms = body.get("untilMs").and_then(Value::as_u64)?;
        for (number, intervals) in CreditPlan::of(call.as_str()).after(until_ms / interval_ms) {
            let until_ms = intervals * interval_ms;
            run_log.granted(SentGrant {
                call: call.to_string(),
                until_ms: i64::try_from(until_ms).ok()?,
                at: SystemTime::now(),
            });
            grant(&client, &call, number, until_ms).await?;
        }
        Some(())
    };
    low.for_each_concurrent(MAX_EXTENSIONS, async |message| {
        let _ = extend(message).await; // None: the credit of the call runs out
    })
    .await;
}

/// A refused or lost grant is not repeated: the credit of the call runs out.
async fn grant(client: &Client, call: &CallId, number: u64, until_ms: u64) -> Option<()> {
    let grant_id = format!("grant-{number}").parse().ok()?;
    let command = ExtendCall {
        call_id: Some(call.clone()),
        grant: Grant { grant_id, until_ms },
    };
    let extended = request::ask(client, call, &command, TraceParent::generate(), EXTENDED_WITHIN).await;
    extended.ok().map(drop)
}

impl CreditPlan {
    fn of(call: &str) -> Self {
        let mut rng = rng(call, CREDIT);
        let (first, renewal) = (3 + rng.below(8), 2 + rng.below(4));
        let kind = rng.below(100);
        Self {
            first: if kind < 50 { PLENTY } else { first },
            renewal,
            renewals: match kind {
                0..50 => 0,
                50..75 => PLENTY,
                _ => rng.below(3),
            },
        }
    }

    /// The grants to send when the credit of `until` intervals is low: the next one, and sometimes the one before, too late.
    fn after(self, until: u64) -> Vec<(u64, u64)> {
        let granted = until.saturating_sub(self.first) / self.renewal;
        let next = granted + 1;
        if next > self.renewals {
            return Vec::new();
        }
        let mut grants = vec![(next, self.first + next * self.renewal)];
        if next % 3 == 2 {
            grants.push((granted, self.first + granted * self.renewal));
        }
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credit_of_some_calls_runs_out_and_of_some_never() {
        let plans: Vec<CreditPlan> = (0..200)
            .map(|number| CreditPlan::of(&format!("call_{number}")))
            .collect();
        let has = |fits: fn(&CreditPlan) -> bool| plans.iter().filter(|plan| fits(plan)).count();
        assert!(has(|plan| plan.first == PLENTY) > 60);
        assert!(has(|plan| plan.first < PLENTY && plan.renewals == PLENTY) > 30);
        assert!(has(|plan| plan.first < PLENTY && plan.renewals == 0) > 5);
        assert!(has(|plan| (1..3).contains(&plan.renewals)) > 10);
        assert_eq!(CreditPlan::of("c"), CreditPlan::of("c"));
    }

    #[test]
    fn a_renewal_follows_the_last_grant_until_there_is_none() {
        let plan = CreditPlan {
            first: 3,
            renewal: 2,
            renewals: 2,
        };
        assert_eq!(plan.after(3), [(1, 5)]);
        assert_eq!(
            plan.after(5),
            [(2, 7), (1, 5)],
            "and an older one, which shortens nothing"
        );
        assert!(plan.after(7).is_empty());
    }
}
