//! Call set-ups through the whole stack, from `call_request` until both parties can hear each other, and where the time goes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::conversation::Conversation;
use callpulse_tests::clients::party::Party;
use callpulse_tests::percentile::percentile;
use callpulse_tests::servers::process::{Service, sum_of_series};
use callpulse_tests::servers::stack::Stack;
use callpulse_tests::token::Role;
use tokio::task::JoinSet;

use super::Plan;
use crate::figures::{Figures, OURS};
use crate::usage::cpu_nanos;

/// Pairs of parties, each of which sets up one call after another.
const PAIRS: usize = 16;
const WINDOW: Duration = Duration::from_secs(15);
const WINDOW_SHORT: Duration = Duration::from_secs(8);
/// The histograms of a call's way: metric with labels, and the case in the table.
const STEPS: [(&str, &str); 7] = [
    ("callpulse_ws_request_seconds{type=\"call_request\"}", "call_request"),
    ("callpulse_ws_request_seconds{type=\"call_accept\"}", "call_accept"),
    (
        "callpulse_ws_request_seconds{type=\"rtc_create_transport\"}",
        "rtc_create_transport",
    ),
    (
        "callpulse_ws_request_seconds{type=\"rtc_connect_transport\"}",
        "rtc_connect_transport",
    ),
    ("callpulse_ws_request_seconds{type=\"rtc_produce\"}", "rtc_produce"),
    ("callpulse_ws_request_seconds{type=\"rtc_consume\"}", "rtc_consume"),
    ("callpulse_media_detection_seconds", "first packet, fact stored"),
];

pub(super) async fn measure(plan: &Plan, progress: &dyn Fn(&str)) -> Result<Figures> {
    let mut figures = Figures::new("setups", plan.repeats, plan.short);
    for _ in 0..plan.repeats {
        let mut stack = plan.stack().start().await?;
        let before = processes(&mut stack)?;
        let window = if plan.short { WINDOW_SHORT } else { WINDOW };
        let millis = set_up(&stack, window).await?;
        let after = processes(&mut stack)?;
        let of_set_ups = |percent| percentile(millis.iter().copied(), percent).unwrap_or_default();
        let mut add = |case: &str, metric: &str, value: f64| {
            figures.add(case, metric, OURS, value);
            progress(&format!("{case:<26} {metric:<16} {value:>8.2}"));
        };
        let count = millis.len() as f64;
        add(super::SET_UPS, super::SET_UP_RATE, count / window.as_secs_f64());
        add(super::SET_UPS, super::SET_UP_P50, of_set_ups(50));
        add(super::SET_UPS, super::SET_UP_P99, of_set_ups(99));
        for ((name, before), (_, after)) in before.into_iter().zip(after) {
            add(name, super::SET_UP_CPU, (after - before) as f64 / 1e6 / count);
        }
        let pages = [page(&stack.edges).await?, page(&stack.workers).await?].concat();
        for (series, case) in STEPS {
            add(
                case,
                super::MEAN,
                mean(&pages, series).with_context(|| format!("no {series}"))? * 1e3,
            );
        }
    }
    Ok(figures)
}

/// CPU time so far, by process; the clients are this one.
fn processes(stack: &mut Stack) -> Result<Vec<(&'static str, u64)>> {
    let nats = stack.nats.children_mut().next().context("no server")?.pid();
    let pid = |services: &[Service]| services.first().map(|service| service.child().pid());
    [
        ("ws-edge", pid(&stack.edges)),
        ("media-worker", pid(&stack.workers)),
        ("billing-timer", pid(&stack.timers)),
        ("nats-server", Some(nats)),
        ("clients", Some(std::process::id())),
    ]
    .into_iter()
    .map(|(name, pid)| anyhow::Ok((name, cpu_nanos(pid.context("no process")?)?)))
    .collect()
}

async fn page(services: &[Service]) -> Result<String> {
    Ok(services.first().context("no service")?.ops("/metrics").await?.1)
}

/// Milliseconds of each set-up that was completed within the window.
async fn set_up(stack: &Stack, window: Duration) -> Result<Vec<f64>> {
    let edge = stack.edge(0)?;
    let mut pairs = JoinSet::new();
    let until = Instant::now() + window;
    for number in 0..PAIRS {
        pairs.spawn(async move {
            let mut user = Party::connect(edge, Role::User, &format!("user_{number}")).await?;
            let mut otomo = Party::connect(edge, Role::Otomo, &format!("otomo_{number}")).await?;
            let mut took = Vec::new();
            while Instant::now() < until {
                let started = Instant::now();
                let conversation = Conversation::ring(user, otomo).await?;
                conversation.accept().await?;
                let (one, other) = tokio::join!(Caller::join(&conversation.user), Caller::join(&conversation.otomo));
                let (mut one, mut other) = (one?, other?);
                one.start_talking().await?;
                other.start_talking().await?;
                for party in conversation.parties() {
                    party.expect_notice("call_connected").await?;
                }
                let heard = tokio::join!(one.listen(&conversation.user), other.listen(&conversation.otomo));
                heard.0.and(heard.1)?;
                if Instant::now() < until {
                    took.push(started.elapsed().as_secs_f64() * 1e3);
                }
                conversation.user.request("call_hangup", conversation.id()).await?;
                for party in conversation.parties() {
                    party.expect_notice("call_ended").await?;
                }
                Conversation { user, otomo, .. } = conversation;
            }
            anyhow::Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = pairs.join_next().await {
        all.extend(took??);
    }
    ensure!(!all.is_empty(), "no call was set up");
    Ok(all)
}

/// The mean of a histogram, over all labels beyond those of `series`.
fn mean(page: &str, series: &str) -> Option<f64> {
    let (name, labels) = series.split_at(series.find('{').unwrap_or(series.len()));
    let total = |suffix: &str| sum_of_series(page, &format!("{name}_{suffix}{labels}"));
    let count = total("count").filter(|count| *count > 0.0)?;
    Some(total("sum")? / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_of_all_series_with_the_labels() {
        let page = "a_seconds_sum{type=\"x\",to=\"1\"} 3\na_seconds_count{type=\"x\",to=\"1\"} 1\n\
                    a_seconds_sum{type=\"x\",to=\"2\"} 1\na_seconds_count{type=\"x\",to=\"2\"} 3\n\
                    a_seconds_sum{type=\"y\"} 9\na_seconds_count{type=\"y\"} 1\na_seconds_counted 7\n";
        assert_eq!(mean(page, "a_seconds{type=\"x\"}"), Some(1.0));
        assert_eq!(mean(page, "a_seconds"), Some(13.0 / 5.0));
        assert_eq!(mean(page, "b_seconds"), None);
    }
}
