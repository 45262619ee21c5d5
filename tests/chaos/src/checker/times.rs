//! The times at which a fault was active or a party had no connection, and the end of the run.

use std::collections::HashMap;

use super::received::MessagesByParty;
use crate::records::run_log::{Entries, Outage};
use crate::records::timestamp::Timestamp;

/// From one time to another.
type Span = (Timestamp, Timestamp);

/// The times of a run.
#[derive(Debug)]
pub(super) struct Times<'a> {
    /// The end of the run.
    pub(super) over_at: Timestamp,
    broken: Vec<Span>,
    away: HashMap<&'a str, Vec<Span>>,
    first_received: HashMap<&'a str, Timestamp>,
}

impl<'a> Times<'a> {
    /// From the run log and the first message of each party.
    pub(super) fn of(entries: &'a Entries, parties: &MessagesByParty<'a>, last_stored: Option<Timestamp>) -> Self {
        let received = entries.received.iter().map(|received| Timestamp::from(received.at));
        let over_at = entries.over_at.map(Timestamp::from);
        let over_at = over_at.or_else(|| received.chain(last_stored).max());
        let over_at = over_at.unwrap_or_else(|| std::time::SystemTime::UNIX_EPOCH.into());
        let until = |timestamp: Option<std::time::SystemTime>| timestamp.map_or(over_at, Timestamp::from);
        let faults = entries.faults.iter();
        let faults = faults.map(|fault| (fault.injected_at.into(), until(fault.repaired_at)));
        let starved = entries.starved.iter();
        let starved = starved.map(|(from, until)| ((*from).into(), (*until).into()));
        let mut broken: Vec<Span> = faults.chain(starved).collect();
        broken.sort_unstable();
        let mut away: HashMap<&str, Vec<Span>> = HashMap::new();
        for Outage {
            party,
            from,
            until: back,
        } in &entries.outages
        {
            // An outage until the end lasts beyond it, so the party is not connected at the end.
            let back = back.map_or(over_at.plus_ms(1), Timestamp::from);
            away.entry(party).or_default().push(((*from).into(), back));
        }
        let first_received = parties.iter();
        let first_received = first_received.filter_map(|(party, messages)| Some((*party, messages.since?)));
        Self {
            over_at,
            broken,
            away,
            first_received: first_received.collect(),
        }
    }

    /// Whether a party has a connection at a time.
    pub(super) fn is_connected(&self, party: &str, at: Timestamp) -> bool {
        let there = self.first_received.get(party).is_some_and(|since| *since <= at);
        there && !self.was_away(party, at, at)
    }

    /// Whether a party had no connection for some of the time.
    pub(super) fn was_away(&self, party: &str, from: Timestamp, until: Timestamp) -> bool {
        let mut away = self.away.get(party).into_iter().flatten();
        away.any(|(since, back)| *since <= until && *back > from)
    }

    /// Whether a party was connected, without an active fault, for `ms` milliseconds without interruption.
    pub(super) fn calm(&self, party: &str, from: Timestamp, until: Timestamp, ms: i64) -> bool {
        let until = until.min(self.over_at);
        let Some(mut calm_since) = self.first_received.get(party).map(|since| from.max(*since)) else {
            return false;
        };
        let away = self.away.get(party).into_iter().flatten();
        let mut disturbed: Vec<&Span> = self.broken.iter().chain(away).collect();
        disturbed.sort_unstable();
        for (since, repaired) in disturbed {
            if (*since).min(until).ms_since(calm_since) >= ms {
                return true;
            }
            calm_since = calm_since.max(*repaired);
        }
        until.ms_since(calm_since) >= ms
    }
}
