//! The stored facts of one call with publisher and delay, and a check of its minutes.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::views::call_view::{CallState, CallView};
use crate::views::history::{Page, Recorded};
use crate::wire::fact::Fact;
use crate::wire::time::Timestamp;
use crate::wire::unknown::Unknown;

/// One stored fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// The last token of its subject.
    pub fact: String,
    /// When it happened; null if it was not decoded, or is of an unknown kind.
    pub at: Option<Timestamp>,
    /// When the server stored it.
    pub stored_at: Timestamp,
    /// From `at` to `storedAt`, in milliseconds: the network, or an outage. Null without `at`.
    pub lag_ms: Option<u64>,
    /// Time since the previous entry was stored, in milliseconds.
    pub gap_ms: u64,
    /// Its publisher (CloudEvents `source`).
    pub source: Option<String>,
    /// Its payload without the call and its parties; null if it was not decoded.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub payload: Value,
    /// Why it was not decoded.
    pub error: Option<String>,
}

/// The stored and the due ticks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Minutes {
    /// The tick interval, in milliseconds, derived from the ticks; null before the first one.
    pub interval_ms: Option<u64>,
    /// Ticks due by the end of the call, or by now; null before the first one.
    pub due: Option<u32>,
    /// Number of stored ticks.
    pub stored: u32,
    /// Minutes below the last stored one without a tick; always empty.
    pub missing: Vec<u32>,
    /// Minutes that the user pays for; null before the settlement.
    pub billed: Option<u32>,
}

/// One call from its first fact to its last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// The call; null if no fact was decoded.
    pub call: Option<CallView>,
    /// The state of the call; null without `call`.
    pub state: Option<CallState>,
    /// Its facts in the order in which they were stored.
    pub entries: Vec<Entry>,
    /// More facts are stored than were read.
    pub truncated: bool,
    /// The stored and the due ticks of the call.
    pub minutes: Minutes,
    /// What this version does not know: kinds of facts, fields, reasons.
    pub unknown: Unknown,
}

/// The most missing minutes that are listed.
const MAX_MISSING: usize = 100;

impl Timeline {
    /// From the stored facts of one call.
    pub fn new(page: &Page, now: Timestamp) -> Self {
        let facts = &page.facts;
        let call = CallView::of(facts);
        Self {
            state: call.as_ref().map(CallView::state),
            minutes: minutes(call.as_ref(), facts, now),
            entries: entries(facts),
            truncated: page.more,
            unknown: unknown(facts),
            call,
        }
    }
}

fn unknown(facts: &[Recorded]) -> Unknown {
    let mut unknown = Unknown::default();
    for recorded in facts {
        unknown += recorded.unknown();
    }
    unknown
}

fn entries(facts: &[Recorded]) -> Vec<Entry> {
    let mut previous: Option<Timestamp> = None;
    let entries = facts.iter().map(|recorded| {
        let stored_at = recorded.stored_at;
        let gap_ms = previous
            .replace(stored_at)
            .map_or(0, |previous| stored_at.millis_since(previous));
        let at = recorded.fact.as_ref().ok().map(Fact::occurred_at);
        Entry {
            sequence: recorded.sequence,
            fact: recorded.subject.rsplit('.').next().unwrap_or_default().to_owned(),
            at,
            stored_at,
            lag_ms: at.map(|at| stored_at.millis_since(at)),
            gap_ms,
            source: recorded.source.clone(),
            payload: payload(recorded),
            error: recorded.error().map(ToString::to_string),
        }
    });
    entries.collect()
}

/// Without the fields that are the same in every fact of the call.
fn payload(recorded: &Recorded) -> Value {
    match recorded.json() {
        Value::Object(mut fields) => {
            for repeated in ["callId", "userId", "otomoId"] {
                fields.remove(repeated);
            }
            Value::Object(fields)
        }
        Value::Null => Value::Null,
        other => json!({ "value": other }),
    }
}

fn minutes(call: Option<&CallView>, facts: &[Recorded], now: Timestamp) -> Minutes {
    let ticks = facts.iter().filter_map(|recorded| match &recorded.fact {
        Ok(Fact::Tick(tick)) => Some(tick),
        _ => None,
    });
    let mut stored: Vec<u32> = ticks.clone().map(|tick| tick.minute).collect();
    stored.sort_unstable();
    stored.dedup();
    let interval_ms = ticks.clone().next_back().and_then(|tick| {
        let elapsed = tick.at.millis_since(tick.connected_at);
        elapsed.checked_div(tick.minute.into()).filter(|interval| *interval > 0)
    });
    let connected_at = call.and_then(|call| call.connected_at);
    let until = call.and_then(|call| call.end.as_ref()).map_or(now, |end| end.ended_at);
    let due = interval_ms.zip(connected_at).map(|(interval, connected_at)| {
        let due = until.millis_since(connected_at) / interval;
        u32::try_from(due).unwrap_or(u32::MAX)
    });
    let last = stored.last().copied().unwrap_or(0);
    let missing = (1..last).filter(|minute| stored.binary_search(minute).is_err());
    Minutes {
        interval_ms,
        due,
        missing: missing.take(MAX_MISSING).collect(),
        stored: u32::try_from(stored.len()).unwrap_or(u32::MAX),
        billed: call.and_then(|call| call.bill).map(|bill| bill.billed_minutes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, at};

    const CALL: &str = "call_1";

    fn requested() -> Fact {
        samples::requested(CALL, at(0)).into()
    }

    fn rtp_detected() -> Fact {
        samples::rtp_detected(CALL, at(2_000)).into()
    }

    fn tick(minute: u32) -> Fact {
        samples::tick(CALL, minute, at(2_000), 60_000).into()
    }

    fn ended() -> Fact {
        samples::ended(CALL, at(130_000), Some(at(2_000))).into()
    }

    fn settled() -> Fact {
        samples::settled(CALL, at(2_000), 128_000, 2).into()
    }

    /// Each fact is stored `lag` milliseconds after it happened.
    fn page(facts: &[Fact], lag: u64) -> Page {
        let recorded = (1..)
            .zip(facts)
            .map(|(sequence, fact)| samples::recorded(sequence, fact.clone(), lag));
        Page {
            facts: recorded.collect(),
            more: false,
        }
    }

    #[test]
    fn entries_have_time_lag_and_gap() {
        let timeline = Timeline::new(&page(&[requested(), rtp_detected(), tick(1)], 3), at(70_000));
        let times: Vec<_> = timeline
            .entries
            .iter()
            .map(|entry| (entry.fact.as_str(), entry.at, entry.lag_ms, entry.gap_ms))
            .collect();
        let expected = [
            ("requested", Some(at(0)), Some(3), 0),
            ("rtp_detected", Some(at(2_000)), Some(3), 2_000),
            ("tick", Some(at(62_000)), Some(3), 60_000),
        ];
        assert_eq!(times, expected);
        assert_eq!(timeline.entries[2].payload["minute"], 1);
        assert_eq!(timeline.entries[2].payload.get("callId"), None);
    }

    #[test]
    fn minutes_are_due_until_now_or_until_the_end() {
        let before = Timeline::new(&page(&[rtp_detected()], 0), at(70_000)).minutes;
        assert_eq!(
            (before.due, before.stored),
            (None, 0),
            "without a tick, the interval is unknown"
        );
        let live = Timeline::new(&page(&[rtp_detected(), tick(1)], 0), at(182_001)).minutes;
        assert_eq!(
            (live.interval_ms, live.due, live.stored, live.billed),
            (Some(60_000), Some(3), 1, None)
        );
        let facts = [rtp_detected(), tick(1), tick(2), ended(), settled()];
        let over = Timeline::new(&page(&facts, 0), at(999_000)).minutes;
        assert_eq!((over.due, over.stored, over.billed), (Some(2), 2, Some(2)));
    }

    #[test]
    fn missing_minutes_are_listed() {
        let facts = [rtp_detected(), tick(2), tick(5)];
        let minutes = Timeline::new(&page(&facts, 0), at(400_000)).minutes;
        assert_eq!(minutes.missing, [1, 3, 4]);
    }

    #[test]
    fn undecodable_facts_are_entries_with_an_error() {
        let mut page = page(&[requested()], 0);
        page.facts.push(Recorded {
            fact: Fact::decode(&ended().subject(), b"{}"),
            payload: "{}".into(),
            stored_at: at(10),
            ..samples::recorded(2, ended(), 0)
        });
        let timeline = Timeline::new(&page, at(20));
        assert_eq!(timeline.state, Some(CallState::Ringing));
        let unreadable = &timeline.entries[1];
        assert_eq!((unreadable.fact.as_str(), unreadable.at), ("ended", None));
        assert!(
            unreadable.error.as_ref().unwrap().contains("not a ended"),
            "{unreadable:?}"
        );
        assert_eq!(
            Timeline::new(
                &Page {
                    facts: vec![],
                    more: false
                },
                at(0)
            )
            .call,
            None
        );
    }
}
