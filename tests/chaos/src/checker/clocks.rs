//! The wall clocks of the services, which faults step. Those of the server and of the clients are true.

use std::collections::HashMap;

use super::history::{Call, Calls};
use super::order;
use crate::records::run_log::Entries;
use crate::records::timestamp::Timestamp;

/// A service may read its clock this long before or after the harness notes the step.
const STEP_MS: i64 = 1_000;

/// The offset of a clock from a time until the next step.
#[derive(Debug, Clone, Copy)]
struct Offset {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    ahead_ms: i64,
}

/// Determines by how much the clock of each call's worker was ahead as it was connected.
pub(super) fn apply(calls: &mut Calls, entries: &Entries) {
    let mut clocks: HashMap<&str, Vec<Offset>> = HashMap::new();
    for step in &entries.clock_steps {
        let at = Timestamp::from(step.at);
        let of_process = clocks.entry(&step.process).or_insert_with(|| {
            vec![Offset {
                from: None,
                until: None,
                ahead_ms: 0,
            }]
        });
        if let Some(last) = of_process.last_mut() {
            last.until = Some(at);
        }
        of_process.push(Offset {
            from: Some(at),
            until: None,
            ahead_ms: step.offset_ms,
        });
    }
    let packets = order::first_packets(&entries.sent);
    for call in calls.values_mut() {
        call.ahead_ms = ahead_ms(call, &clocks, &packets).unwrap_or(0);
    }
}

/// Of the offsets with which the clock can have shown `connectedAt`, the one that fits the first packet best.
fn ahead_ms(call: &Call, clocks: &HashMap<&str, Vec<Offset>>, packets: &order::FirstPackets<'_>) -> Option<i64> {
    let detected = &call.detected.first()?.payload;
    let offsets = clocks.get(detected.worker_id.as_str())?;
    let parties = call.parties();
    let (_, sender) = parties.iter().find(|(role, _)| *role == detected.detected_from)?;
    let sent = packets.get(&(*sender, detected.ssrc)).copied();
    let possible = offsets.iter().filter(|offset| {
        let at = detected.connected_at.plus_ms(-offset.ahead_ms);
        let begun = offset.from.is_none_or(|from| at >= from.plus_ms(-STEP_MS));
        begun && offset.until.is_none_or(|until| at <= until.plus_ms(STEP_MS))
    });
    let distance = |offset: &&Offset| {
        let at = detected.connected_at.plus_ms(-offset.ahead_ms);
        sent.map_or(0, |sent| at.ms_since(sent).abs())
    };
    possible.min_by_key(distance).map(|offset| offset.ahead_ms)
}
