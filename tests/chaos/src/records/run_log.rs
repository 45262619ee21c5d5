//! What a run saw and did: what parties were told, who was cut off and when, what failed, what was broken on purpose.
//!
//! Many tasks write it, the checker reads it afterwards. All times are this machine's wall clock, which the services'
//! and the server's times are too.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

use callpulse_tests::token::Role;

/// Entries of one kind. Beyond them the run_log says that it overflowed, and the run has failed.
pub const MOST_ENTRIES: usize = 1_000_000;

/// One message of the server to a party, as read from the socket.
///
/// Notices, `welcome`, `snapshot`, and the response to `call_request`; the rest of the signalling says nothing about a call.
#[derive(Debug, Clone)]
pub struct ReceivedMessage {
    /// When it was read.
    pub at: SystemTime,
    /// Who the party is.
    pub role: Role,
    /// Its ID: unlike that of any other party of the run, whatever its role.
    pub party: String,
    /// The whole envelope: `type`, `payload`.
    pub message: Value,
}

/// A time without a connection that works.
#[derive(Debug, Clone)]
pub struct Outage {
    /// Who was without one.
    pub party: String,
    /// From when on: the last timestamp at which it was known to work, rather than when the loss was noticed.
    pub from: SystemTime,
    /// When there was a `welcome` again. None: never.
    pub until: Option<SystemTime>,
}

/// A step of a call's set-up, and how it went.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// When it began.
    pub began: SystemTime,
    /// When it was over.
    pub at: SystemTime,
    /// Whose step it was.
    pub party: String,
    /// Which step: `call_request`, `rtc_produce`, …
    pub step: &'static str,
    /// Why it failed, if it did.
    pub failed: Option<String>,
}

/// From when on recovery is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// From the strike: others must take over (a kill).
    Strike,
    /// From the mending: what is held up comes back by itself (a freeze, a cut, a stall, a total outage).
    Mending,
}

/// Something broken on purpose.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What was done: `SIGKILL`, `SIGSTOP`, `cut`, … Figures are given for each of them.
    pub what: String,
    /// To whom.
    pub target: String,
    /// When.
    pub struck_at: SystemTime,
    /// When it was undone: the process started again, the connection let through. None: never.
    pub mended_at: Option<SystemTime>,
    /// Nothing was left that could have taken over. Recovery counts from the mending then, whatever `since` says.
    pub total: bool,
    /// From when on recovery is counted.
    pub since: Since,
}

/// A stream of packets that really left.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Whose.
    pub party: String,
    /// Its SSRC.
    pub ssrc: u32,
    /// When its first packet with a payload left: a timestamp before it was handed to the system.
    pub first_rtp_at: SystemTime,
}

/// Which fault was struck, to say later that it is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(Option<usize>);

/// The run_log. Clones write the same one.
#[derive(Debug, Clone, Default)]
pub struct RunLog(Arc<Mutex<Entries>>);

/// Everything in a run_log.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    /// In the order of reading.
    pub told: Vec<ReceivedMessage>,
    /// In the order of loss.
    pub outages: Vec<Outage>,
    /// Outages that parties chose, by their place in `outages`: there is nothing to recover from.
    pub chosen: BTreeSet<usize>,
    /// In the order of writing.
    pub attempts: Vec<Attempt>,
    /// In the order of striking.
    pub faults: Vec<Fault>,
    /// When the machine gave its processors to others: from one timestamp to another, apart from each other, in order.
    pub starved: Vec<(SystemTime, SystemTime)>,
    /// In the order of writing.
    pub sent: Vec<Sent>,
    /// When the load stopped looking. What the parties were not told after that is no fault.
    pub over_at: Option<SystemTime>,
    /// Entries that found no room.
    pub lost: usize,
    open: HashMap<String, usize>,
}

impl RunLog {
    /// A party read a message.
    pub fn told(&self, told: ReceivedMessage) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        push(&mut entries.told, told, &mut entries.lost);
    }

    /// A party has no connection from that timestamp on. Said twice, the first counts.
    pub fn disconnected(&self, party: &str, from: SystemTime) {
        self.outage(party, from, false);
    }

    /// The same, by the party's own doing.
    pub fn left(&self, party: &str, from: SystemTime) {
        self.outage(party, from, true);
    }

    fn outage(&self, party: &str, from: SystemTime, chosen: bool) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        if entries.open.contains_key(party) {
            return;
        }
        let outage = Outage {
            party: party.to_owned(),
            from,
            until: None,
        };
        if let Some(place) = push(&mut entries.outages, outage, &mut entries.lost) {
            entries.open.insert(party.to_owned(), place);
            if chosen {
                entries.chosen.insert(place);
            }
        }
    }

    /// A party was welcomed again. Ends its outage, if it had one.
    pub fn connected(&self, party: &str, until: SystemTime) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        let outage = entries.open.remove(party);
        if let Some(outage) = outage.and_then(|place| entries.outages.get_mut(place)) {
            outage.until = Some(until);
        }
    }

    /// A step of a call's set-up went well or failed.
    pub fn attempt(&self, attempt: Attempt) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        push(&mut entries.attempts, attempt, &mut entries.lost);
    }

    /// Something is broken from now on.
    pub fn struck(&self, fault: Fault) -> FaultId {
        let mut entries = self.entries();
        let entries = &mut *entries;
        FaultId(push(&mut entries.faults, fault, &mut entries.lost))
    }

    /// It was undone.
    pub fn mended(&self, fault: FaultId, at: SystemTime) {
        let mut entries = self.entries();
        if let Some(fault) = fault.0.and_then(|place| entries.faults.get_mut(place)) {
            fault.mended_at = Some(at);
        }
    }

    /// The machine gave its processors to others. What overlaps with the last such time, lengthens it.
    pub fn starved(&self, from: SystemTime, until: SystemTime) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        match entries.starved.last_mut() {
            Some((_, last)) if *last >= from => *last = until,
            _ => drop(push(&mut entries.starved, (from, until), &mut entries.lost)),
        }
    }

    /// The first packet with a payload of a stream leaves.
    pub fn sent(&self, sent: Sent) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        push(&mut entries.sent, sent, &mut entries.lost);
    }

    /// The load stops looking: the parties go, and no more is expected of what they are told. Only the first time counts.
    pub fn over(&self, at: SystemTime) {
        self.entries().over_at.get_or_insert(at);
    }

    /// Looks at everything so far; who writes meanwhile waits.
    pub fn read<T>(&self, look: impl FnOnce(&Entries) -> T) -> T {
        look(&self.entries())
    }

    /// No writer leaves an entry half written, even if it panics.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock()
    }
}

/// Where it went, if there was room.
fn push<T>(entries: &mut Vec<T>, entry: T, lost: &mut usize) -> Option<usize> {
    if entries.len() >= MOST_ENTRIES {
        *lost += 1;
        return None;
    }
    entries.push(entry);
    Some(entries.len() - 1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn an_outage_lasts_from_the_first_loss_to_the_next_welcome() {
        let run_log = RunLog::default();
        for (from, until) in [(1, 3), (7, 9)] {
            run_log.disconnected("u1", at(from));
            run_log.disconnected("u1", at(from + 1));
            run_log.connected("u1", at(until));
        }
        run_log.connected("u1", at(11));
        run_log.clone().disconnected("u1", at(12));
        let times = run_log.read(|entries| {
            let times = entries.outages.iter().map(|outage| (outage.from, outage.until));
            times.collect::<Vec<_>>()
        });
        assert_eq!(times, [(at(1), Some(at(3))), (at(7), Some(at(9))), (at(12), None)]);
    }

    #[test]
    fn starved_times_that_overlap_are_one() {
        let run_log = RunLog::default();
        for (from, until) in [(1, 4), (2, 5), (5, 8), (9, 12)] {
            run_log.starved(at(from), at(until));
        }
        let starved = run_log.read(|entries| entries.starved.clone());
        assert_eq!(starved, [(at(1), at(8)), (at(9), at(12))]);
    }

    #[test]
    fn an_overflow_is_counted() {
        let (mut entries, mut lost) = (vec![(); MOST_ENTRIES], 0);
        assert_eq!(push(&mut entries, (), &mut lost), None);
        assert_eq!((entries.len(), lost), (MOST_ENTRIES, 1));
    }
}
