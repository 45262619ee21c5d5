//! The latency of `call_connected`, beside a baseline: one publication with its acknowledgement and one WebSocket echo.
//!
//! One monotonic clock measures everything: this process sends the RTP packet, observes the stream and holds the WebSockets of
//! both parties. "Stored" is when an observer of the stream receives the fact, so it includes the delivery to that observer. The
//! server's own time stamp, from before the disk, separates the way to the server. The calls follow each other, with one baseline
//! sample before each: a tight loop on warm caches would measure a faster machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};

use super::baseline::Baseline;
use crate::clients::caller::Caller;
use crate::clients::conversation::{Conversation, Pair};
use crate::facts::reader::{FactWatch, Facts};
use crate::percentile::percentile;
use crate::servers::stack::Stack;
use crate::terminal::screen::{LineKind, Screen};

/// Calls that are measured.
const CALLS: usize = 50;
/// Calls shown on one line.
const CALLS_A_LINE: usize = 10;
/// The deadline for a step.
const SOON: Duration = Duration::from_secs(8);
/// The aim of the design, for the median to each side.
const AIM: Duration = Duration::from_millis(3);
/// The same as a multiple of the baseline.
const AIM_OF_BASELINE: f64 = 2.0;

/// The latencies of one call, from the RTP packet.
#[derive(Debug, Clone, Copy)]
struct Sample {
    arrived: Duration,
    stored: Duration,
    user: Duration,
    otomo: Duration,
    publish: Duration,
    echo: Duration,
}

/// The latencies of all calls.
#[derive(Debug)]
pub struct Figures {
    samples: Vec<Sample>,
}

/// Makes the calls.
pub async fn measure(screen: &Screen, stack: &Stack) -> Result<Figures> {
    screen.heading(&format!(
        "{CALLS} more calls, for their latency (ms from the RTP packet; baseline sampled before each)"
    ));
    let facts = Facts::connect(&stack.nats.url()).await?;
    let watch = facts.watch().await?;
    let mut baseline = Baseline::new(facts.client()).await?;
    let mut samples = Vec::with_capacity(CALLS);
    for number in 1..=CALLS {
        samples.push(
            one_call(stack, &watch, &mut baseline, number)
                .await
                .with_context(|| format!("call {number}"))?,
        );
        if number % CALLS_A_LINE == 0 {
            let latest = samples.iter().skip(number - CALLS_A_LINE);
            let slower: Vec<String> = latest
                .map(|sample| format!("{:6.2}", millis(sample.user.max(sample.otomo))))
                .collect();
            screen.line(
                LineKind::Quiet,
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

async fn one_call(stack: &Stack, watch: &FactWatch, baseline: &mut Baseline, number: usize) -> Result<Sample> {
    let (user_id, otomo_id) = (format!("user_{number:03}_l"), format!("otomo_{number:03}_l"));
    let pair = Pair::across(stack)?.named(&user_id, &otomo_id);
    let call = Conversation::accepted(pair).await?;
    let caller = Caller::join(&call.user).await?;
    let publish = baseline.publish().await?;
    let echo = baseline.echo().await?;

    caller.start_talking().await?;
    let fact = watch.expect(&call.call_id, "rtp_detected", SOON).await?;
    let to_user = call.user.expect_notice("call_connected").await?;
    let to_otomo = call.otomo.expect_notice("call_connected").await?;
    let sent = caller.first_datagram_sent_at().context("nothing was sent")?;
    let since = |at: Instant| at.saturating_duration_since(sent.at);
    // The server uses this machine's wall clock, which may be set back.
    let arrived = fact.server_time - DateTime::<Utc>::from(sent.wall);
    let sample = Sample {
        arrived: arrived.to_std().unwrap_or_default(),
        stored: since(fact.seen_at),
        user: since(to_user.at),
        otomo: since(to_otomo.at),
        publish,
        echo,
    };
    call.user.request("call_hangup", call.id()).await?;
    call.otomo.expect_notice("call_ended").await?;
    Ok(sample)
}

impl Figures {
    /// How many calls.
    pub fn calls(&self) -> usize {
        self.samples.len()
    }

    /// Prints the table.
    pub fn show(&self, screen: &Screen) {
        let calls = self.calls();
        screen.heading(&format!(
            "Latency over {calls} calls, in ms (with so few, p99 is the slowest)"
        ));
        screen.plain(LineKind::Heading, &format!("  {:<58} {:>8} {:>8}", "", "median", "p99"));
        let row = |name: &str, of: fn(&Sample) -> Duration| {
            let (median, p99) = self.quantiles(of);
            screen.plain(LineKind::Info, &format!("  {name:<58} {median:>8.2} {p99:>8.2}"));
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
        row("baseline: JetStream publish with acknowledgement", |sample| {
            sample.publish
        });
        row("baseline: WebSocket echo", |sample| sample.echo);
        let baseline = row("baseline: the sum of the two", |sample| sample.publish + sample.echo);
        let (slower, aim) = (user.max(otomo), millis(AIM));
        let verdict = |met: bool| {
            if met {
                (LineKind::Good, "met")
            } else {
                (LineKind::Bad, "missed")
            }
        };
        let (kind, result) = verdict(slower < aim);
        screen.plain(
            kind,
            &format!("  aim: median under {aim:.0} ms: {slower:.2} ms, {result}"),
        );
        let (kind, result) = verdict(slower < AIM_OF_BASELINE * baseline);
        screen.plain(
            kind,
            &format!(
                "  aim: under {AIM_OF_BASELINE:.0}× the baseline: {:.2}×, {result}",
                slower / baseline
            ),
        );
    }

    /// Median and 99th percentile, in milliseconds.
    fn quantiles(&self, of: fn(&Sample) -> Duration) -> (f64, f64) {
        let ranked = |percent| percentile(self.samples.iter().map(of), percent).map_or(f64::NAN, millis);
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
    fn quantiles_are_the_median_and_the_slowest() {
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
