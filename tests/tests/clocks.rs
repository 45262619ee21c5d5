//! Services whose wall clocks are off, and step during calls: nothing but the times in facts may follow them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

use std::time::{Duration, Instant};

use anyhow::ensure;
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::clients::party::Party;
use callpulse_tests::facts::reader::{Fact, Facts};
use callpulse_tests::servers::commands::reconcile;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::servers::wall_clock::WallClock;
use callpulse_tests::skip::skipped;
use callpulse_tests::wait::{eventually, let_time_pass};

const SOON: Duration = Duration::from_secs(20);
/// A "minute".
const INTERVAL: Duration = Duration::from_secs(1);
const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;
/// The tolerance between two clocks' milliseconds.
const ROUNDING: Duration = Duration::from_millis(5);
/// The delay of a busy machine. Every step is much longer.
const LATE: Duration = Duration::from_secs(8);
/// The configured deadlines: ringing, and the first packet.
const DEADLINE: Duration = Duration::from_secs(4);

/// None: this machine cannot step the clock of a process.
async fn start(edges: usize) -> Option<(Stack, Facts)> {
    if !WallClock::is_available() {
        skipped("no C compiler (cc), so the clocks of services cannot be stepped");
        return None;
    }
    let stack = StackBuilder::default()
        .edges(edges)
        .own_clocks()
        .set("billing-timer", "tick_interval_ms", INTERVAL.as_millis())
        .set("ws-edge", "ring_timeout_ms", DEADLINE.as_millis())
        .set("media-worker", "media_timeout_ms", DEADLINE.as_millis());
    let stack = stack.start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    Some((stack, facts))
}

/// Asserts that something happened as long after another event as configured. Both events are known to within a span.
fn assert_after(what: &str, [earliest, latest]: [Instant; 2], configured: Duration, at: Instant) {
    let (at_least, at_most) = (
        at.saturating_duration_since(earliest),
        at.saturating_duration_since(latest),
    );
    assert!(
        at_least + ROUNDING >= configured && at_most <= configured + LATE,
        "{what} after {at_most:?} to {at_least:?}, configured are {configured:?}"
    );
}

/// A connected call, and the span of its first packet.
struct Talk {
    call: Conversation,
    connected: [Instant; 2],
    _callers: [callpulse_tests::clients::caller::Caller; 2],
}

impl Talk {
    async fn begin(stack: &Stack) -> Self {
        let (call, user, otomo) = Conversation::talking(Pair::across(stack).unwrap()).await.unwrap();
        let told = call.user.received_of("call_connected")[0].at;
        Self {
            call,
            connected: [user.first_datagram_sent_at().unwrap().at, told],
            _callers: [user, otomo],
        }
    }

    async fn minutes(&self, minutes: usize) {
        let waited = eventually("ticks", SOON, async || {
            let ticks = self.call.user.received_of("tick").len();
            ensure!(ticks >= minutes, "{ticks}");
            Ok(())
        });
        waited.await.unwrap();
    }

    /// Hangs up, and checks the ticks and the bill by the monotonic clock. Returns `ended`.
    async fn end(&self, facts: &Facts) -> Fact {
        let begun = Instant::now();
        self.call.user.request("call_hangup", self.call.id()).await.unwrap();
        let over = [begun, Instant::now()];
        let ended = facts.expect(&self.call.call_id, "ended", SOON).await.unwrap();
        assert!(ended.payload["durationMs"].is_u64(), "{:?}", ended.payload);
        self.assert_billed(facts, over).await;
        ended
    }

    /// The call ended within a span.
    async fn assert_billed(&self, facts: &Facts, over: [Instant; 2]) {
        for tick in self.call.user.received_of("tick") {
            let minute = u32::try_from(tick.payload()["minute"].as_u64().unwrap()).unwrap();
            assert_after("tick", self.connected, INTERVAL * minute, tick.at);
        }
        let settled = facts.expect(&self.call.call_id, "settled", SOON).await.unwrap();
        let duration = Duration::from_millis(settled.payload["durationMs"].as_u64().unwrap());
        let most = over[1] - self.connected[0] + ROUNDING;
        let least = over[0].saturating_duration_since(self.connected[1] + ROUNDING);
        assert!(
            (least..=most).contains(&duration),
            "billed {duration:?}, it lasted {least:?} to {most:?}"
        );
        let minutes = duration.as_secs() / INTERVAL.as_secs();
        assert_eq!(settled.payload["billedMinutes"], minutes, "{:?}", settled.payload);
        let stored = facts.of_call(&self.call.call_id).await.unwrap();
        let ticks = stored.iter().filter(|fact| fact.name == "tick").count();
        // Ticks go on until the loss of a worker is known.
        let beyond = settled.payload["overTicks"].as_u64().unwrap_or(0);
        assert_eq!(ticks as u64, minutes + beyond);
    }
}

/// The findings of `reconcile`, of calls by kind. Differences count as findings.
fn findings(stack: &Stack) -> Vec<(String, String)> {
    let output = reconcile(&stack.nats, "1s", []).unwrap().output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    lines
        .filter_map(|line| {
            let kind = line.get("difference").or_else(|| line.get("finding"))?;
            Some((text(&line["callId"]), text(kind)))
        })
        .collect()
}

#[tokio::test]
async fn a_step_of_the_workers_clock_changes_no_bill_and_is_reported() {
    let Some((stack, facts)) = start(1).await else { return };
    let worker = &stack.workers[0];
    let (mut before, mut stepped) = (0, Vec::new());
    for (number, offset) in [20 * SECOND, -HOUR, HOUR, HOUR - 30 * SECOND].into_iter().enumerate() {
        let talk = Talk::begin(&stack).await;
        talk.minutes(1).await;
        worker.set_clock_offset(offset).unwrap();
        talk.minutes(3).await;
        let ended = talk.end(&facts).await;
        let told = ended.payload["clockStepMs"].as_i64().unwrap();
        assert!((told - (offset - before)).abs() < SECOND, "{told} ms");
        let steps = worker.metric("callpulse_media_clock_steps_total").await.unwrap();
        assert_eq!(steps, Some((number + 1) as f64));
        stepped.push((talk.call.call_id.clone(), "clock_step".to_owned()));
        before = offset;
    }
    // Its clock is off, but has not stepped.
    let talk = Talk::begin(&stack).await;
    talk.minutes(1).await;
    talk.end(&facts).await;
    let_time_pass(
        "the facts are older than the grace period of reconcile",
        Duration::from_secs(2),
    )
    .await;
    let mut found = findings(&stack);
    found.sort_unstable();
    stepped.sort_unstable();
    assert_eq!(found, stepped);
}

#[tokio::test]
async fn no_tick_follows_the_clock_of_the_timer() {
    let Some((stack, facts)) = start(1).await else { return };
    for offset in [60 * SECOND, -30 * SECOND, HOUR, -HOUR] {
        let talk = Talk::begin(&stack).await;
        talk.minutes(1).await;
        stack.timers[0].set_clock_offset(offset).unwrap();
        talk.minutes(3).await;
        talk.end(&facts).await;
    }
}

#[tokio::test]
async fn a_call_rings_and_ends_as_configured_whatever_the_clocks_of_edges_show() {
    let Some((stack, facts)) = start(2).await else { return };
    // Each edge judges the calls of the other, too.
    for (first, second) in [(40 * SECOND, 0), (0, HOUR), (-HOUR, 30 * SECOND)] {
        stack.edges[0].set_clock_offset(first).unwrap();
        stack.edges[1].set_clock_offset(second).unwrap();
        rings_until_its_deadline(&stack, &facts).await;
        waits_for_media_until_its_deadline(&stack, &facts).await;
        let talk = Talk::begin(&stack).await;
        talk.minutes(1).await;
        // In the middle of the call, as well.
        stack.edges[0].set_clock_offset(-first).unwrap();
        talk.minutes(2).await;
        talk.end(&facts).await;
    }
}

async fn end_of(party: &Party) -> (Instant, String) {
    let ended = party.expect_notice_within("call_ended", DEADLINE + SOON).await.unwrap();
    (ended.at, ended.payload()["reason"].as_str().unwrap().to_owned())
}

async fn rings_until_its_deadline(stack: &Stack, facts: &Facts) {
    let begun = Instant::now();
    let call = Conversation::ringing(Pair::across(stack).unwrap()).await.unwrap();
    let ringing = [begun, Instant::now()];
    let (at, reason) = end_of(&call.user).await;
    assert_eq!(reason, "no_answer");
    assert_after("the end of ringing", ringing, DEADLINE, at);
    facts.expect(&call.call_id, "settled", SOON).await.unwrap();
}

async fn waits_for_media_until_its_deadline(stack: &Stack, facts: &Facts) {
    let call = Conversation::ringing(Pair::across(stack).unwrap()).await.unwrap();
    let begun = Instant::now();
    call.accept().await.unwrap();
    let accepted = [begun, Instant::now()];
    let (at, reason) = end_of(&call.user).await;
    assert_eq!(reason, "media_timeout");
    assert_after("the end without media", accepted, DEADLINE, at);
    facts.expect(&call.call_id, "settled", SOON).await.unwrap();
}

#[tokio::test]
async fn a_lost_worker_is_billed_to_its_last_heartbeat_whatever_its_clock_shows() {
    let Some((mut stack, facts)) = start(2).await else {
        return;
    };
    stack.edges[1].set_clock_offset(-HOUR).unwrap();
    for offset in [HOUR, -HOUR, 30 * SECOND] {
        let talk = Talk::begin(&stack).await;
        talk.minutes(1).await;
        stack.workers[0].set_clock_offset(offset).unwrap();
        talk.minutes(2).await;
        // Longer than the interval of heartbeats.
        let alive_at = Instant::now();
        let_time_pass(
            "the worker sends heartbeats with the stepped clock",
            Duration::from_secs(3),
        )
        .await;
        stack.workers[0].kill().unwrap();
        let over = [alive_at, Instant::now()];
        let ended = facts.expect(&talk.call.call_id, "ended", SOON).await.unwrap();
        assert_eq!(ended.payload["reason"], "worker_lost");
        talk.assert_billed(&facts, over).await;
        stack.workers[0].restart().await.unwrap();
        stack.workers[0].ready().await.unwrap();
    }
}
