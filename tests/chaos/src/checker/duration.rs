//! Whether a call can have lasted as long as it is settled for, by the true clocks of clients and server. The clocks of services may step.

use super::CLOCK_MS;
use super::history::Call;
use super::order::FirstPackets;
use crate::records::run_log::{Attempt, Entries};
use crate::records::timestamp::Timestamp;
use crate::report::{Check, Report};

/// A fault is recorded at most this long before its signal.
const SIGNAL_MS: i64 = 500;
/// A call may end this much before the request that is recorded: an attempt whose connection broke is recorded at its end.
const EARLY_MS: i64 = 10_000;
/// An end without the worker's measure may be its last heartbeat, this long before the request.
const HEARTBEAT_MS: i64 = 8_000;

/// Checks one call.
pub(super) fn check(id: &str, call: &Call, packets: &FirstPackets<'_>, entries: &Entries, report: &mut Report) {
    let (Some(detected), Some(ended), Some(settled)) =
        (call.detected.first(), call.ended.first(), call.settled.first())
    else {
        return;
    };
    let duration_ms = settled.payload.duration_ms;
    let mut wrong = |text: String| report.find(Check::Duration, id, &[ended.sequence, settled.sequence], text);
    let parties = call.parties();
    let sender = parties.iter().find(|(role, _)| *role == detected.payload.detected_from);
    let first_packet = sender.and_then(|(_, party)| packets.get(&(*party, detected.payload.ssrc)));
    if let Some(sent) = first_packet {
        let most = ended.stored_at.ms_since(*sent) + CLOCK_MS;
        if duration_ms > most {
            wrong(format!("settled with {duration_ms} ms, it lasted at most {most} ms"));
        }
    }
    // Whoever ends the call afterwards, for whatever reason: nothing proves that there was media.
    let killed = entries.faults.iter().filter(|fault| {
        let at = Timestamp::from(fault.injected_at);
        fault.what == "worker-kill"
            && fault.target == detected.payload.worker_id
            && (detected.stored_at..=ended.stored_at).contains(&at)
    });
    if let Some(killed_at) = killed.map(|fault| Timestamp::from(fault.injected_at)).min() {
        let begun = first_packet.copied().unwrap_or(detected.stored_at);
        let most = killed_at.ms_since(begun) + SIGNAL_MS;
        if duration_ms > most {
            wrong(format!(
                "settled with {duration_ms} ms, its worker was killed after {most} ms"
            ));
        }
    }
    if ended.payload.reason != "hangup" {
        return;
    }
    // The first request to end it, answered or not.
    let first = first_packet.copied().unwrap_or(detected.stored_at);
    let of_call = |attempt: &&Attempt| {
        let begun = Timestamp::from(attempt.began);
        attempt.step == "call_hangup"
            && parties.iter().any(|(_, party)| *party == attempt.party)
            && (first..=ended.stored_at).contains(&begun)
    };
    let hung_up = entries
        .attempts
        .iter()
        .filter(of_call)
        .map(|attempt| Timestamp::from(attempt.began))
        .min();
    if let Some(hung_up) = hung_up {
        let unmeasured_ms = if ended.payload.duration_ms.is_none() {
            HEARTBEAT_MS
        } else {
            0
        };
        let least = hung_up.ms_since(detected.stored_at) - EARLY_MS - unmeasured_ms;
        if duration_ms < least {
            wrong(format!("settled with {duration_ms} ms, it lasted at least {least} ms"));
        }
    }
}
