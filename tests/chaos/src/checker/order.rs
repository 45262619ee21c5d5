//! The facts of a call: how many of each, in which order, and the evidence for its connection.
//!
//! When a worker is disconnected, others end its calls. It stores its facts when it is back. After `ended`, a late fact about media
//! is therefore valid if it happened before the end, or if the call ended as `worker_lost`.

use std::collections::HashMap;

use super::CLOCK_MS;
use super::history::{Call, Detected, Ended, Fact, Started};
use crate::records::run_log::Sent;
use crate::records::timestamp::Timestamp;
use crate::report::{Check, Report};

/// When the first packet of each stream was sent, by party and SSRC.
pub(super) type FirstPackets<'a> = HashMap<(&'a str, u32), Timestamp>;

/// A stream may be recorded more than once. The earliest record counts.
pub(super) fn first_packets(sent: &[Sent]) -> FirstPackets<'_> {
    let mut first = FirstPackets::new();
    for sent in sent {
        let at = Timestamp::from(sent.first_rtp_at);
        let known = first.entry((&sent.party, sent.ssrc)).or_insert(at);
        *known = at.min(*known);
    }
    first
}

/// Checks one call, except its minutes.
pub(super) fn check(id: &str, call: &Call, packets: &FirstPackets<'_>, report: &mut Report) {
    counts(id, call, report);
    beginning(id, call, report);
    if let Some(detected) = call.detected.first() {
        connection(id, call, detected, packets, report);
    }
    if let Some(started) = call.started.first() {
        start(id, call, started, packets, report);
    }
    end(id, call, report);
}

fn counts(id: &str, call: &Call, report: &mut Report) {
    let once = [
        ("requested", sequences(&call.requested)),
        ("accepted", sequences(&call.accepted)),
        ("rtp_detected", sequences(&call.detected)),
        ("media_started", sequences(&call.started)),
        ("ended", sequences(&call.ended)),
        ("settled", sequences(&call.settled)),
    ];
    for (name, sequences) in &once {
        if sequences.len() > 1 {
            report.find(
                Check::Repeated,
                id,
                sequences,
                format!("{} times {name}", sequences.len()),
            );
        }
    }
    let first = sequences(&call.requested);
    match (
        call.requested.is_empty(),
        call.ended.is_empty(),
        call.settled.is_empty(),
    ) {
        (true, _, _) => report.find(Check::NotRequested, id, &call.sequences(), "was not requested"),
        (false, true, _) => report.find(Check::NotEnded, id, &first, "has no end"),
        // An unconnected call is settled too, with zeros.
        (false, false, true) => report.find(
            Check::NotSettled,
            id,
            &sequences(&call.ended),
            "ended, and is not settled",
        ),
        (false, false, false) => {}
    }
}

fn beginning(id: &str, call: &Call, report: &mut Report) {
    let all = call.sequences();
    if let (Some(requested), Some(first)) = (call.requested.first(), all.first())
        && *first < requested.sequence
    {
        let text = "a fact was stored before the request";
        report.find(Check::Order, id, &[*first, requested.sequence], text);
    }
    if let (Some(accepted), Some(ended)) = (call.accepted.first(), call.ended.first())
        && accepted.sequence > ended.sequence
    {
        let text = "accepted after its end";
        report.find(Check::Order, id, &[ended.sequence, accepted.sequence], text);
    }
}

/// The connection must be evidenced: by the worker that hosts the call, with a packet that a party of this call sent.
fn connection(id: &str, call: &Call, fact: &Fact<Detected>, packets: &FirstPackets<'_>, report: &mut Report) {
    let detected = &fact.payload;
    let mut wrong = |check, text: String| report.find(check, id, &[fact.sequence], text);
    match call.accepted.first() {
        None => wrong(Check::Order, "connected, but not accepted".to_owned()),
        Some(accepted) if accepted.sequence > fact.sequence => {
            wrong(Check::Order, "connected before it was accepted".to_owned());
        }
        Some(accepted) if accepted.payload.worker_id != detected.worker_id => {
            let (host, seen_by) = (&accepted.payload.worker_id, &detected.worker_id);
            wrong(Check::Evidence, format!("hosted by {host}, connected by {seen_by}"));
        }
        Some(_) => {}
    }
    if detected.method != "sfu_rtp_detected" || detected.producer_id.is_empty() || detected.worker_id.is_empty() {
        wrong(Check::Evidence, format!("no evidence: {detected:?}"));
    }
    let evidence = (&*detected.detected_from, detected.ssrc, detected.connected_at);
    if let Some(text) = unproven(call, evidence, packets) {
        wrong(Check::Evidence, text);
    }
}

/// The other party's first packet needs the same evidence.
fn start(id: &str, call: &Call, fact: &Fact<Started>, packets: &FirstPackets<'_>, report: &mut Report) {
    let started = &fact.payload;
    let mut wrong = |check, text: String| report.find(check, id, &[fact.sequence], text);
    let host = call.accepted.first().map(|accepted| &accepted.payload.worker_id);
    if host.is_some_and(|host| *host != started.worker_id) {
        wrong(
            Check::Evidence,
            format!("hosted by {host:?}, started on {}", started.worker_id),
        );
    }
    match call.detected.first() {
        Some(detected) if detected.payload.detected_from == started.party => {
            wrong(Check::Evidence, format!("the {} started and connected", started.party));
        }
        _ => {}
    }
    if let Some(text) = unproven(call, (&started.party, started.ssrc, started.at), packets) {
        wrong(Check::Evidence, text);
    }
}

/// The reason why a packet of a party, with an SSRC and a time, was not sent by it before that time.
fn unproven(call: &Call, (role, ssrc, at): (&str, u32, Timestamp), packets: &FirstPackets<'_>) -> Option<String> {
    let parties = call.parties();
    let sender = parties.iter().find(|(known, _)| *known == role);
    match sender.and_then(|(_, party)| packets.get(&(*party, ssrc))) {
        None => Some(format!("the {role} did not send SSRC {ssrc}")),
        Some(sent) if call.true_time(at) < sent.plus_ms(-CLOCK_MS) => {
            Some(format!("seen at {at}, the first packet was sent at {sent}"))
        }
        Some(_) => None,
    }
}

fn end(id: &str, call: &Call, report: &mut Report) {
    let Some(fact) = call.ended.first() else { return };
    let (ended, at) = (&fact.payload, fact.sequence);
    let lost = ended.reason == "worker_lost";
    match (call.detected.first(), ended.connected_at) {
        (Some(detected), _) if detected.sequence > at && call.is_connected_after(detected, fact) && !lost => {
            let text = format!("connected after its end by {}", ended.reason);
            report.find(Check::Order, id, &[at, detected.sequence], text);
        }
        (Some(detected), None) if detected.sequence < at => {
            let text = "its end has no connectedAt";
            report.find(Check::Beginning, id, &[detected.sequence, at], text);
        }
        (Some(detected), Some(known)) if known != detected.payload.connected_at => {
            let text = format!(
                "connectedAt {known} at the end, {} before",
                detected.payload.connected_at
            );
            report.find(Check::Beginning, id, &[detected.sequence, at], text);
        }
        (None, Some(known)) => {
            let text = format!("its end has connectedAt {known}, which is not stored");
            report.find(Check::Beginning, id, &[at], text);
        }
        _ => {}
    }
    if let Some(known) = ended.connected_at
        && known > ended.ended_at
    {
        let text = format!("ended at {} before it was connected at {known}", ended.ended_at);
        report.find(Check::Order, id, &[at], text);
    }
    for media in call.lost.iter().chain(&call.resumed) {
        let changed_at = media.payload.at.filter(|changed_at| *changed_at > ended.ended_at);
        if let Some(changed_at) = changed_at
            && media.sequence > at
            && !lost
        {
            let text = format!("RTP lost or resumed at {changed_at}, ended at {}", ended.ended_at);
            report.find(Check::Order, id, &[at, media.sequence], text);
        }
    }
    if let Some(settled) = call.settled.first() {
        if settled.sequence < at {
            report.find(Check::Order, id, &[settled.sequence, at], "settled before its end");
        }
        let late = call.ticks.iter().filter(|tick| tick.sequence > settled.sequence);
        for tick in late {
            let text = format!("tick {} after the settlement", tick.payload.minute);
            report.find(Check::Order, id, &[settled.sequence, tick.sequence], text);
        }
    }
}

fn sequences<T>(facts: &[Fact<T>]) -> Vec<u64> {
    facts.iter().map(|fact| fact.sequence).collect()
}

impl Call {
    /// An end that has no connection is not of the worker's clock.
    fn is_connected_after(&self, detected: &Fact<Detected>, ended: &Fact<Ended>) -> bool {
        let connected_at = detected.payload.connected_at;
        let connected_at = match ended.payload.connected_at {
            Some(_) => connected_at,
            None => self.true_time(connected_at),
        };
        connected_at > ended.payload.ended_at
    }

    /// The sequences of all its facts, in order.
    pub(super) fn sequences(&self) -> Vec<u64> {
        let mut all = [
            sequences(&self.requested),
            sequences(&self.accepted),
            sequences(&self.detected),
            sequences(&self.started),
            sequences(&self.granted),
            sequences(&self.credit_low),
            sequences(&self.lost),
            sequences(&self.resumed),
            sequences(&self.ticks),
            sequences(&self.ended),
            sequences(&self.settled),
        ]
        .concat();
        all.sort_unstable();
        all
    }
}
