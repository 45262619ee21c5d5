//! A server, billing-timers, and helpers to publish facts and to check the results.

use std::time::Duration;

use anyhow::{Result, ensure};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::facts::reader::{Fact, Facts};
use callpulse_tests::servers::nats_server::Sync;
use callpulse_tests::servers::process::Service;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::wait::eventually;
use contract::buckets::billing_active::ActiveBilling;
use contract::samples::{ended, rtp_detected};
use contract::{PublishCondition, Timestamp};
use serde_json::Value;

/// The timeout of `eventually`: long enough for a busy machine. No test waits for it to pass.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Fixture {
    pub(crate) stack: Stack,
    pub(crate) reader: Facts,
    pub(crate) contract: ContractClient,
    pub(crate) active_billing: ActiveBilling,
    pub(crate) interval_ms: u64,
}

impl Fixture {
    pub(crate) async fn start(interval_ms: u64) -> Result<Self> {
        Self::with(interval_ms, StackBuilder::default()).await
    }

    pub(crate) async fn with(interval_ms: u64, stack: StackBuilder) -> Result<Self> {
        let stack = stack
            .workers(0)
            .edges(0)
            .sync(Sync::Lazy)
            .set("billing-timer", "tick_interval_ms", interval_ms)
            .set("billing-timer", "consumer.ack_wait_ms", 1_000)
            .start()
            .await?;
        let contract = ContractClient::open(&stack.nats).await?;
        let reader = Facts::connect(&stack.nats.url()).await?;
        Ok(Self {
            reader,
            active_billing: ActiveBilling::new(&contract.nats, &contract.storage),
            contract,
            stack,
            interval_ms,
        })
    }

    pub(crate) fn timer(&mut self) -> &mut Service {
        &mut self.stack.timers[0]
    }

    /// Publishes `rtp_detected` as a media-worker does.
    pub(crate) async fn connect(&self, call: &str, connected_at: Timestamp) -> Result<()> {
        let fact = rtp_detected(call, connected_at);
        self.contract.publish(fact, PublishCondition::First).await.map(drop)
    }

    /// Publishes `ended`.
    pub(crate) async fn end(&self, call: &str, ended_at: Timestamp, connected_at: Option<Timestamp>) -> Result<()> {
        let fact = ended(call, ended_at, connected_at);
        self.contract.publish(fact, PublishCondition::First).await.map(drop)
    }

    pub(crate) async fn expect_tick(&self, call: &str, minute: u64) -> Result<()> {
        eventually(&format!("tick {minute} of {call}"), SOON, async || {
            let ticks = self.ticks(call).await?;
            ensure!(
                ticks.iter().any(|tick| tick.payload["minute"] == minute),
                "{} ticks",
                ticks.len()
            );
            Ok(())
        })
        .await
    }

    pub(crate) async fn ticks(&self, call: &str) -> Result<Vec<Fact>> {
        let facts = self.reader.of_call(call).await?;
        Ok(facts.into_iter().filter(|fact| fact.name == "tick").collect())
    }

    /// Checks that all ticks of a call are stored once, in order, with their due times, and none early. Returns their number.
    pub(crate) async fn check_ticks(&self, call: &str, connected_at: Timestamp) -> Result<u64> {
        let ticks = self.ticks(call).await?;
        for (minute, tick) in (1u64..).zip(&ticks) {
            let due = connected_at.plus_millis(minute * self.interval_ms);
            ensure!(
                tick.payload["minute"] == minute,
                "{call} has {:?} in place of minute {minute}",
                tick.payload
            );
            ensure!(
                tick.text("at")? == due.to_string(),
                "minute {minute} is due at {due}: {:?}",
                tick.payload
            );
            ensure!(
                tick.text("connectedAt")? == connected_at.to_string(),
                "{:?}",
                tick.payload
            );
            ensure!(tick.text("userId")? == format!("u_{call}"), "{:?}", tick.payload);
            let taken_in = tick.server_time.timestamp_millis();
            ensure!(taken_in >= due.as_millis(), "minute {minute} of {call} was early");
        }
        Ok(u64::try_from(ticks.len())?)
    }

    /// The settlement of a call, once it is stored and the entry is removed.
    pub(crate) async fn settled(&self, call: &str) -> Result<Value> {
        let settled = self.reader.expect(call, "settled", SOON).await?.payload;
        eventually(&format!("removal of the entry of {call}"), SOON, async || {
            ensure!(self.active_billing.get(&call.parse()?).await?.is_none(), "still there");
            Ok(())
        })
        .await?;
        let all = self.reader.of_call(call).await?;
        ensure!(
            all.iter().filter(|fact| fact.name == "settled").count() == 1,
            "settled twice"
        );
        Ok(settled)
    }

    /// A counter; 0 before it first counts.
    pub(crate) async fn metric(&self, series: &str) -> Result<f64> {
        Ok(self.stack.timers[0].metric(series).await?.unwrap_or_default())
    }
}

/// Waits until the wall clock, which decides when ticks are due, has reached `moment`.
pub(crate) async fn wall_clock_reaches(moment: Timestamp) -> Result<()> {
    let within = moment.until(Timestamp::now()) + SOON;
    eventually("the wall clock", within, async || {
        ensure!(Timestamp::now() >= moment, "not yet {moment}");
        Ok(())
    })
    .await
}
