//! How fast `call_connected` is, beside a floor: one publication with its acknowledgement and one WebSocket echo, bare.
//!
//! Everything is measured on one monotonic clock, that of this process: it sends the RTP packet, it observes the stream,
//! and it holds both parties' WebSockets. "Stored" is when an observer of the stream has the fact in hand, so it includes
//! the delivery to that observer. The server's own time stamp, from before the disk, shows how much of that was the way
//! to it. Calls are made one after the other, and one floor sample is taken before each, after the same quiet moment: a
//! floor from a tight loop on warm caches would be another machine's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::screen::{Screen, Tone};
use crate::caller::Caller;
use crate::facts::{FactWatch, Facts};
use crate::floor::Floor;
use crate::party::Party;
use crate::stack::Stack;
use crate::token::Role;

/// Calls that are measured.
const CALLS: usize = 50;
/// Calls shown on one line.
const CALLS_A_LINE: usize = 10;
/// How long a step may take.
const SOON: Duration = Duration::from_secs(8);
/// What the design aims at: the median to each side.
const AIM: Duration = Duration::from_millis(3);
/// And as a multiple of the floor.
const AIM_OF_FLOOR: f64 = 2.0;

/// One call's, from the RTP packet.
#[derive(Debug, Clone, Copy)]
struct Sample {
    arrived: Duration,
    stored: Duration,
    user: Duration,
    otomo: Duration,
    publish: Duration,
    echo: Duration,
}

/// All calls'.
#[derive(Debug)]
pub struct Figures {
    samples: Vec<Sample>,
}

/// Makes the calls.
///
/// # Errors
/// When a call does not go as it should.
pub async fn measure(screen: &Screen, stack: &Stack) -> Result<Figures> {
    screen.heading(&format!(
        "{CALLS} more calls, for their latency (ms from the RTP packet; floor sampled before each)"
    ));
    let facts = Facts::connect(&stack.nats.url()).await?;
    let watch = facts.watch().await?;
    let mut floor = Floor::new(facts.client()).await?;
    let mut samples = Vec::with_capacity(CALLS);
    for number in 1..=CALLS {
        samples.push(
            one_call(stack, &watch, &mut floor, number)
                .await
                .with_context(|| format!("call {number}"))?,
        );
        if number % CALLS_A_LINE == 0 {
            let latest = samples.iter().skip(number - CALLS_A_LINE);
            let slower: Vec<String> = latest
                .map(|sample| format!("{:6.2}", millis(sample.user.max(sample.otomo))))
                .collect();
            screen.line(
                Tone::Quiet,
                &format!(
                    "calls {:>2} to {number:>2} {}",
                    number - CALLS_A_LINE + 1,
                    slower.join(" ")
                ),
            );
        }
    }
    Ok(Figures { samples })
}

async fn one_call(stack: &Stack, watch: &FactWatch, floor: &mut Floor, number: usize) -> Result<Sample> {
    let (user_id, otomo_id) = (format!("user_{number:03}_l"), format!("otomo_{number:03}_l"));
    let user = Party::connect(stack.edge(0)?, Role::User, &user_id).await?;
    let otomo = Party::connect(stack.edge(1)?, Role::Otomo, &otomo_id).await?;
    user.expect_notice("welcome").await?;
    otomo.expect_notice("welcome").await?;
    let answer = user.request("call_request", json!({ "otomoId": otomo_id })).await?;
    let call = answer.get("callId").and_then(Value::as_str).context("no callId")?;
    otomo.expect_notice("incoming_call").await?;
    otomo.request("call_accept", json!({ "callId": call })).await?;
    user.expect_notice("call_accepted").await?;
    let caller = Caller::join(&user).await?;
    let publish = floor.publish().await?;
    let echo = floor.echo().await?;

    caller.start_talking().await?;
    let fact = watch.expect(call, "rtp_detected", SOON).await?;
    let told_user = user.expect_notice("call_connected").await?;
    let told_otomo = otomo.expect_notice("call_connected").await?;
    let sent = caller.first_datagram_sent_at().context("nothing was sent")?;
    let since = |at: Instant| at.saturating_duration_since(sent.at);
    // The server runs on this machine's clock; set back in between, it would give nothing below zero.
    let arrived = fact.taken_in_at - DateTime::<Utc>::from(sent.wall);
    let sample = Sample {
        arrived: arrived.to_std().unwrap_or_default(),
        stored: since(fact.seen_at),
        user: since(told_user.at),
        otomo: since(told_otomo.at),
        publish,
        echo,
    };
    user.request("call_hangup", json!({ "callId": call })).await?;
    otomo.expect_notice("call_ended").await?;
    Ok(sample)
}

impl Figures {
    /// How many calls.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.samples.len()
    }

    /// Prints the table.
    pub fn show(&self, screen: &Screen) {
        let calls = self.calls();
        screen.heading(&format!(
            "Latency over {calls} calls, in ms (with so few, p99 is the slowest)"
        ));
        screen.plain(Tone::Heading, &format!("  {:<58} {:>8} {:>8}", "", "median", "p99"));
        let row = |name: &str, of: fn(&Sample) -> Duration| {
            let (median, p99) = self.quantiles(of);
            screen.plain(Tone::Narrator, &format!("  {name:<58} {median:>8.2} {p99:>8.2}"));
            median
        };
        row("RTP datagram sent → fact at nats-server (its time stamp)", |sample| {
            sample.arrived
        });
        row("RTP datagram sent → fact stored (seen by an observer)", |sample| {
            sample.stored
        });
        let user = row("RTP datagram sent → call_connected at the user", |sample| sample.user);
        let otomo = row("RTP datagram sent → call_connected at the otomo", |sample| {
            sample.otomo
        });
        row("floor: JetStream publish with acknowledgement", |sample| sample.publish);
        row("floor: WebSocket echo", |sample| sample.echo);
        let floor = row("floor: the sum of the two", |sample| sample.publish + sample.echo);
        let (slower, aim) = (user.max(otomo), millis(AIM));
        let verdict = |met: bool| {
            if met {
                (Tone::Good, "met")
            } else {
                (Tone::Bad, "missed")
            }
        };
        let (tone, word) = verdict(slower < aim);
        screen.plain(
            tone,
            &format!("  aim: median under {aim:.0} ms: {slower:.2} ms, {word}"),
        );
        let (tone, word) = verdict(slower < AIM_OF_FLOOR * floor);
        screen.plain(
            tone,
            &format!(
                "  aim: under {AIM_OF_FLOOR:.0}× the floor: {:.2}×, {word}",
                slower / floor
            ),
        );
    }

    /// Median and 99th percentile, in milliseconds, each a value that was measured (nearest rank).
    fn quantiles(&self, of: fn(&Sample) -> Duration) -> (f64, f64) {
        let mut sorted: Vec<Duration> = self.samples.iter().map(of).collect();
        sorted.sort_unstable();
        let ranked = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted
                .get(rank.saturating_sub(1))
                .map_or(f64::NAN, |duration| millis(*duration))
        };
        (ranked(50), ranked(99))
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_slowest() {
        let sample = |millis| {
            let user = Duration::from_millis(millis);
            Sample {
                arrived: user,
                stored: user,
                user,
                otomo: user,
                publish: user,
                echo: user,
            }
        };
        let figures = Figures {
            samples: [9, 1, 2, 3, 40].map(sample).to_vec(),
        };
        let (median, p99) = figures.quantiles(|sample| sample.user);
        assert!(
            (median - 3.0).abs() < 0.01 && (p99 - 40.0).abs() < 0.1,
            "{median} {p99}"
        );
    }
}
