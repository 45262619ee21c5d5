//! When something was broken, who had no connection, and when the run was over.

use std::collections::HashMap;

use super::received::PartyMessagesById;
use crate::records::run_log::{Entries, Outage};
use crate::records::timestamp::Timestamp;

/// From a timestamp to another.
type Span = (Timestamp, Timestamp);

/// The times of a run.
#[derive(Debug)]
pub(super) struct Times<'a> {
    /// The end of the run.
    pub(super) over_at: Timestamp,
    broken: Vec<Span>,
    away: HashMap<&'a str, Vec<Span>>,
    first_heard: HashMap<&'a str, Timestamp>,
}

impl<'a> Times<'a> {
    /// From a run_log, and from when on each party heard anything.
    pub(super) fn of(entries: &'a Entries, listeners: &PartyMessagesById<'a>, last_stored: Option<Timestamp>) -> Self {
        let told = entries.told.iter().map(|told| Timestamp::from(told.at));
        let over_at = entries.over_at.map(Timestamp::from);
        let over_at = over_at.or_else(|| told.chain(last_stored).max());
        let over_at = over_at.unwrap_or_else(|| std::time::SystemTime::UNIX_EPOCH.into());
        let until = |timestamp: Option<std::time::SystemTime>| timestamp.map_or(over_at, Timestamp::from);
        let faults = entries.faults.iter();
        let faults = faults.map(|fault| (fault.struck_at.into(), until(fault.mended_at)));
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
            // Until the very end of the run is beyond it, so that nobody counts as connected at its last timestamp.
            let back = back.map_or(over_at.plus_ms(1), Timestamp::from);
            away.entry(party).or_default().push(((*from).into(), back));
        }
        let first_heard = listeners.iter();
        let first_heard = first_heard.filter_map(|(party, listener)| Some((*party, listener.since?)));
        Self {
            over_at,
            broken,
            away,
            first_heard: first_heard.collect(),
        }
    }

    /// Whether a party has a connection at a timestamp.
    pub(super) fn is_connected(&self, party: &str, at: Timestamp) -> bool {
        let there = self.first_heard.get(party).is_some_and(|since| *since <= at);
        there && !self.was_away(party, at, at)
    }

    /// Whether it had none for some of that time.
    pub(super) fn was_away(&self, party: &str, from: Timestamp, until: Timestamp) -> bool {
        let mut away = self.away.get(party).into_iter().flatten();
        away.any(|(since, back)| *since <= until && *back > from)
    }

    /// Whether there were so many milliseconds on end in which a party was connected and nothing was broken.
    pub(super) fn calm(&self, party: &str, from: Timestamp, until: Timestamp, ms: i64) -> bool {
        let until = until.min(self.over_at);
        let Some(mut calm_since) = self.first_heard.get(party).map(|since| from.max(*since)) else {
            return false;
        };
        let away = self.away.get(party).into_iter().flatten();
        let mut disturbed: Vec<&Span> = self.broken.iter().chain(away).collect();
        disturbed.sort_unstable();
        for (since, mended) in disturbed {
            if (*since).min(until).ms_since(calm_since) >= ms {
                return true;
            }
            calm_since = calm_since.max(*mended);
        }
        until.ms_since(calm_since) >= ms
    }
}
