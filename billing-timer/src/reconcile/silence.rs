//! How long the parties of a call were silent, calculated independently from `rtp_lost` and `rtp_resumed`.

use contract::{Role, Timestamp};

/// The most changes kept per call: some 10 hours of a party that is lost and back every 10 s.
const MAX_CHANGES: usize = 8_192;

/// A party's sound stopped or returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    party: Role,
    /// When; none for a party that was never heard.
    at: Option<Timestamp>,
    silent: bool,
}

/// The changes of both parties, in stream order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Silence {
    changes: Vec<Change>,
}

impl Silence {
    pub(crate) fn lost(&mut self, party: Role, last_rtp_at: Option<Timestamp>) {
        self.push(party, last_rtp_at, true);
    }

    pub(crate) fn resumed(&mut self, party: Role, at: Timestamp) {
        self.push(party, Some(at), false);
    }

    fn push(&mut self, party: Role, at: Option<Timestamp>, silent: bool) {
        let before = self.changes.iter().rfind(|change| change.party == party);
        // A repeated loss or return is no change.
        if before.map_or(silent, |before| before.silent != silent) && self.changes.len() < MAX_CHANGES {
            self.changes.push(Change { party, at, silent });
        }
    }

    /// The milliseconds from `connected_at` to `ended_at` in which one of these parties was silent.
    pub(crate) fn millis(&self, of: &[Role], connected_at: Timestamp, ended_at: Timestamp) -> u64 {
        // At each of these times the number of silent parties changes by this much.
        let mut steps: Vec<(Timestamp, i32)> = Vec::new();
        for change in self.changes.iter().filter(|change| of.contains(&change.party)) {
            let at = change.at.unwrap_or(connected_at).max(connected_at).min(ended_at);
            steps.push((at, if change.silent { 1 } else { -1 }));
        }
        // At equal times a silence begins before another ends: the number of silent parties does not drop to 0 in between.
        steps.sort_by_key(|(at, by)| (*at, -by));
        let (mut silent, mut since, mut total) = (0, connected_at, 0);
        for (at, by) in steps {
            if silent > 0 {
                total += at.millis_since(since);
            }
            (silent, since) = (silent + by, at);
        }
        if silent > 0 {
            total += ended_at.millis_since(since);
        }
        total
    }
}
