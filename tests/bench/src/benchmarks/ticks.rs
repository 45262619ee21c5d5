//! 10,000 ticks due at one instant: until the last one is stored.
//!
//! The calls are injected once; their minutes are short, so that every minute is a repeat. Between two of them, the bare publishers
//! store as many ticks of other calls in the same stream. All times are from the due instant, or from the first written byte, to the
//! server's time of the last message.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::stream::Stream;
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::scale::load::{self, PlannedCall};
use callpulse_tests::servers::child::Child;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use callpulse_tests::wait::{eventually, let_time_pass};
use contract::jetstream::batch::MAX_BATCH;
use contract::samples::rtp_detected;
use contract::{CallId, Timestamp};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Plan;
use crate::bare_publisher::{Template, publish};
use crate::figures::{Figures, OURS};
use crate::server_kind::{node, peers};

const TICKS: usize = 10_000;
const CASE: &str = "10000 at once";
const RATE: &str = "ticks/s";
const AFTER: &str = "last stored after ms";
const BILLING_TIMER: &str = "billing-timer";
/// A minute of these calls: long enough for one burst of each publisher.
const MINUTE: Duration = Duration::from_secs(10);
/// From the plan to the first due minute.
const LEAD: Duration = Duration::from_secs(15);
const STORED_WITHIN: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Delayed jobs are added before they are due.
const BULLMQ_LEAD: Duration = Duration::from_secs(8);

pub(super) async fn measure(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    let mut figures = Figures::new("ticks", plan.repeats, plan.short);
    let mut add = |publisher: &str, millis: f64| {
        let rate = TICKS as f64 * 1e3 / millis.max(1.0);
        figures.add(CASE, AFTER, publisher, millis);
        figures.add(CASE, RATE, publisher, rate);
        progress(&format!(
            "{publisher:<16} the last one is stored after {millis:>6.0} ms: {rate:>6.0} ticks/s"
        ));
    };
    timer_and_bare(plan, &mut add).await?;
    for _ in 0..plan.repeats {
        add("NATS scheduler", scheduler().await.context("NATS scheduler")?);
        add("BullMQ", bullmq().await.context("BullMQ")?);
    }
    Ok(figures)
}

async fn timer_and_bare(plan: &Plan, add: &mut dyn FnMut(&str, f64)) -> Result<()> {
    let stack = plan.stack().workers(0).edges(0);
    let stack = stack
        .set(BILLING_TIMER, "tick_interval_ms", MINUTE.as_millis())
        .start()
        .await?;
    let client = ContractClient::open(&stack.nats).await?;
    let calls = &client.storage.calls;
    let first_due = Timestamp::now().plus(LEAD);
    let minute = u64::try_from(MINUTE.as_millis())?;
    let connected_at = Timestamp::from_millis(first_due.as_millis().saturating_sub_unsigned(minute));
    let connected_at = connected_at.context("a time before the epoch")?;
    let planned: Vec<PlannedCall> = (0..TICKS)
        .map(|_| PlannedCall {
            id: CallId::generate(),
            connected_at,
        })
        .collect();
    load::connect(&client.facts, &planned).await?;
    let entries = async || {
        let info = client.storage.billing_active.stream.get_info().await?;
        ensure!(info.state.messages >= TICKS as u64, "{} entries", info.state.messages);
        Ok(())
    };
    eventually("billing_active with all calls", LEAD, entries).await?;
    ensure!(Timestamp::now() < first_due, "the calls were injected too late");
    for repeat in 0..plan.repeats {
        let due = first_due.plus(MINUTE * u32::try_from(repeat)?);
        let before = last_sequence(calls).await?;
        let_time_pass("the minute", due.until(Timestamp::now())).await;
        let last = stored(calls, before, TICKS).await?;
        add(OURS, server_millis(calls, last).await? - due.as_millis() as f64);
        // The timer's notices and its next plan.
        let_time_pass("the timer rests", Duration::from_secs(1)).await;
        let template = Template::stored(calls, last).await?;
        for name in ["bare batches", "one by one"] {
            let ids: Vec<String> = (0..TICKS).map(|_| CallId::generate().as_str().to_owned()).collect();
            let port = stack.nats.port();
            let (bytes, replies) = match name {
                // As calls that are billed, these have a fact, which the conditions name.
                "bare batches" => {
                    let before = last_sequence(calls).await?;
                    let (bytes, replies) = template.batches(&ids, MAX_BATCH, None)?;
                    spawn_blocking(move || publish(port, bytes, replies)).await??;
                    template.batches(&ids, MAX_BATCH, Some(before + 1))?
                }
                _ => template.one_by_one(&ids)?,
            };
            let before = last_sequence(calls).await?;
            let started = Timestamp::now();
            spawn_blocking(move || publish(port, bytes, replies))
                .await?
                .context(name)?;
            let last = stored(calls, before, TICKS).await?;
            add(name, server_millis(calls, last).await? - started.as_millis() as f64);
        }
    }
    Ok(())
}

pub(super) async fn last_sequence(stream: &Stream) -> Result<u64> {
    Ok(stream.get_info().await?.state.last_sequence)
}

/// Waits for so many ticks after a sequence, and returns that of the last one.
pub(super) async fn stored(stream: &Stream, before: u64, ticks: usize) -> Result<u64> {
    let last = before + ticks as u64;
    eventually("all ticks stored", STORED_WITHIN, async || {
        let_time_pass("a poll must not load the server", POLL_INTERVAL).await;
        let stored = last_sequence(stream).await?;
        ensure!(stored >= last, "{} are missing", last - stored);
        ensure!(stored == last, "{} too many", stored - last);
        Ok(last)
    })
    .await
}

pub(super) async fn server_millis(stream: &Stream, sequence: u64) -> Result<f64> {
    let time = stream.get_raw_message(sequence).await?.time;
    Ok(time.timestamp_micros() as f64 / 1e3)
}

/// Scheduled messages (NATS ADR-51): each is one message for the schedule, and one when it is due.
async fn scheduler() -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let nats = NatsServer::start(folder.path(), Sync::Always).await?;
    let client = async_nats::connect(nats.url()).await?;
    let config = r#"{"name":"SCHEDULED","subjects":["scheduled.>"],"storage":"file","allow_msg_schedules":true,"allow_msg_ttl":true,"allow_rollup_hdrs":true}"#;
    let created = client.request("$JS.API.STREAM.CREATE.SCHEDULED", config.into()).await?;
    let created = String::from_utf8_lossy(&created.payload).into_owned();
    ensure!(!created.contains("\"error\""), "{created}");
    let jetstream = async_nats::jetstream::new(client.clone());
    let stream = jetstream.get_stream("SCHEDULED").await?;
    let tick = rtp_detected("call_scheduled", Timestamp::now());
    let payload = serde_json::to_string(&serde_json::json!({ "callId": tick.parties.call_id.as_str(), "minute": 1 }))?;
    // Whole seconds: the header has no fraction.
    let due_ms = (Timestamp::now().as_millis() / 1_000 + 12) * 1_000;
    let due = Timestamp::from_millis(due_ms).context("a time")?.to_string();
    for number in 0..TICKS {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Schedule", format!("@at {due}"));
        headers.insert("Nats-Schedule-Target", format!("scheduled.tick.{number}"));
        let subject = format!("scheduled.plan.{number}");
        client
            .publish_with_headers(subject, headers, payload.clone().into())
            .await?;
    }
    client.flush().await?;
    eventually("all schedules stored", LEAD, async || {
        let stored = last_sequence(&stream).await?;
        ensure!(stored >= TICKS as u64, "{stored} schedules");
        Ok(())
    })
    .await?;
    ensure!(
        Timestamp::now().as_millis() < due_ms,
        "the schedules were stored too late"
    );
    let last = eventually("all scheduled ticks stored", STORED_WITHIN, async || {
        let_time_pass("a poll must not load the server", POLL_INTERVAL).await;
        let stored = last_sequence(&stream).await?;
        ensure!(stored >= 2 * TICKS as u64, "{stored} messages");
        Ok(stored)
    })
    .await?;
    Ok(server_millis(&stream, last).await? - due_ms as f64)
}

/// Delayed jobs in Debian's Redis, which syncs every write.
async fn bullmq() -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut redis = Command::new("redis-server");
    redis.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    redis.args(["--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"]);
    redis.arg("--dir").arg(folder.path());
    let started = Child::start("redis-server", &mut redis, &folder.path().join("redis.log"));
    let mut redis = started.context("apt-get install redis-server")?;
    // A full pipe would block it.
    let mut output = redis.take_stdout()?;
    tokio::spawn(async move { tokio::io::copy(&mut output, &mut tokio::io::sink()).await });
    eventually("Redis accepting connections", STORED_WITHIN, async || {
        Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await?)
    })
    .await?;
    let mut script = Command::new(node()?);
    script.arg(peers().join("bullmq.js")).env("NODE_ENV", "production");
    script
        .env("REDIS_PORT", port.to_string())
        .env("JOBS", TICKS.to_string());
    script.env("LEAD_MS", BULLMQ_LEAD.as_millis().to_string());
    let mut child = Child::start("bullmq", &mut script, &folder.path().join("bullmq.log"))?;
    let mut line = String::new();
    let mut lines = BufReader::new(child.take_stdout()?);
    timeout(STORED_WITHIN, lines.read_line(&mut line))
        .await
        .context("no line of bullmq.js")??;
    line.trim().parse().with_context(|| child.log_tail())
}
