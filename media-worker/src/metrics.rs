//! All metrics of this service. No label contains a call's or a party's identifier: their number is unbounded.

use std::time::Duration;

use contract::{EndReason, Fact};
use metrics::{counter, gauge, histogram};

/// Shows what may never happen as 0, and not as missing.
pub fn register(capacity: u32) {
    gauge!("callpulse_media_capacity").set(f64::from(capacity));
    set_cordoned(false);
    set_calls(0);
    set_call_phases([]);
    set_waiting_facts(0);
    counter!("callpulse_media_connected_total").increment(0);
    counter!("callpulse_media_clock_steps_total").increment(0);
    counter!("callpulse_media_facts_lost_total").increment(0);
    counter!("callpulse_media_sfu_deaths_total").increment(0);
    for event in ["lost", "resumed"] {
        counter!("callpulse_media_rtp_total", "event" => event).increment(0);
    }
}

/// Sets whether an operator keeps new calls away.
pub fn set_cordoned(cordoned: bool) {
    gauge!("callpulse_media_cordoned").set(if cordoned { 1.0 } else { 0.0 });
}

/// Records the time from the acknowledgement of a fact until its notices are handed to NATS.
pub fn notices_sent(took: Duration) {
    histogram!("callpulse_media_notice_seconds").record(took.as_secs_f64());
}

/// Sets the number of calls on this worker.
pub fn set_calls(count: usize) {
    gauge!("callpulse_media_calls").set(float(count));
}

/// Where a call stands, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPhase {
    /// No packet of it connects it yet.
    Waiting,
    /// Both parties' media arrives.
    Connected,
    /// The media of a party is lost.
    Lost,
}

/// Sets the number of calls in each phase.
pub fn set_call_phases(calls: impl IntoIterator<Item = CallPhase>) {
    let (mut waiting, mut connected, mut lost) = (0, 0, 0);
    for state in calls {
        *match state {
            CallPhase::Waiting => &mut waiting,
            CallPhase::Connected => &mut connected,
            CallPhase::Lost => &mut lost,
        } += 1;
    }
    for (state, count) in [("waiting", waiting), ("connected", connected), ("lost", lost)] {
        gauge!("callpulse_media_call_states", "state" => state).set(float(count));
    }
}

/// Sets the number of facts that wait for NATS.
pub fn set_waiting_facts(count: usize) {
    gauge!("callpulse_media_queued_facts").set(float(count));
}

/// Counts a stored fact; `latency` runs from the event to the acknowledgement.
pub fn fact_stored(fact: &Fact, latency: Duration) {
    let rtp = |event| counter!("callpulse_media_rtp_total", "event" => event).increment(1);
    match fact {
        Fact::RtpDetected(_) => {
            counter!("callpulse_media_connected_total").increment(1);
            histogram!("callpulse_media_detection_seconds").record(latency.as_secs_f64());
        }
        Fact::RtpLost(_) => rtp("lost"),
        Fact::RtpResumed(_) => rtp("resumed"),
        _ => {}
    }
}

/// Counts a call that this worker ended.
pub fn call_ended(reason: EndReason) {
    counter!("callpulse_media_ended_total", "reason" => reason.as_str()).increment(1);
}

/// Counts a call during which the wall clock was set.
pub fn clock_stepped() {
    counter!("callpulse_media_clock_steps_total").increment(1);
}

/// Counts a connection to a TCP port of media by its outcome.
pub fn tcp_connection(outcome: &'static str) {
    counter!("callpulse_media_tcp_connections_total", "outcome" => outcome).increment(1);
}

/// Counts a fact that will never be stored.
pub fn fact_lost() {
    counter!("callpulse_media_facts_lost_total").increment(1);
}

/// Counts an answered command; `outcome` is `ok` or the code of the refusal.
pub fn command_answered(operation: &'static str, outcome: &'static str, took: Duration) {
    counter!("callpulse_media_commands_total", "operation" => operation, "outcome" => outcome).increment(1);
    histogram!("callpulse_media_command_seconds", "operation" => operation).record(took.as_secs_f64());
}

/// Sets the number of mediasoup workers that are alive.
pub fn set_sfu_workers(count: usize) {
    gauge!("callpulse_media_sfu_workers").set(float(count));
}

/// Counts a mediasoup worker that died.
pub fn sfu_worker_died() {
    counter!("callpulse_media_sfu_deaths_total").increment(1);
}

/// Records how long one round of sampling took. A value near the sampling interval means that the worker is overloaded.
pub fn sampling_round(took: Duration) {
    histogram!("callpulse_media_sampling_seconds").record(took.as_secs_f64());
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
