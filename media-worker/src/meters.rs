//! Every metric of this service. None has a label with a call's or a party's name: those are without bound.

use std::time::Duration;

use contract::EndReason;
use metrics::{counter, gauge, histogram};

/// Calls hosted now.
pub fn calls(count: usize) {
    gauge!("callpulse_media_calls").set(number(count));
}

/// Facts that wait for NATS.
pub fn outbox(waiting: usize) {
    gauge!("callpulse_media_outbox_facts").set(number(waiting));
}

/// A call was connected; `latency` is from the packet to the acknowledgement of the fact.
pub fn connected(latency: Duration) {
    counter!("callpulse_media_connected_total").increment(1);
    histogram!("callpulse_media_detection_seconds").record(latency.as_secs_f64());
}

/// A party's media was `lost` or `resumed`.
pub fn media(event: &'static str) {
    counter!("callpulse_media_rtp_total", "event" => event).increment(1);
}

/// This worker ended a call.
pub fn ended(reason: EndReason) {
    let reason = serde_json::to_value(reason)
        .ok()
        .and_then(|reason| reason.as_str().map(str::to_owned));
    counter!("callpulse_media_ended_total", "reason" => reason.unwrap_or_default()).increment(1);
}

/// A fact was lost.
pub fn dropped() {
    counter!("callpulse_media_facts_lost_total").increment(1);
}

/// A command was answered: `outcome` is `ok` or the code of the refusal.
pub fn command(operation: &'static str, outcome: &'static str, took: Duration) {
    counter!("callpulse_media_commands_total", "operation" => operation, "outcome" => outcome).increment(1);
    histogram!("callpulse_media_command_seconds", "operation" => operation).record(took.as_secs_f64());
}

/// mediasoup workers that are alive.
pub fn sfu_workers(count: usize) {
    gauge!("callpulse_media_sfu_workers").set(number(count));
}

/// A mediasoup worker died.
pub fn sfu_death() {
    counter!("callpulse_media_sfu_deaths_total").increment(1);
}

/// The producers' statistics were read once around; `took` nearing the interval means overload.
pub fn sampled(took: Duration) {
    histogram!("callpulse_media_sampling_seconds").record(took.as_secs_f64());
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
