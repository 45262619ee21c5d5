//! The log of a run: received messages, outages of parties, attempts, injected faults.
//!
//! Many tasks write it, and the checker reads it afterwards. All times are of this machine's wall clock, which the server uses too, and
//! the services, unless a fault steps theirs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

use callpulse_tests::token::Role;

/// The limit of entries of one kind. If it is exceeded, the run fails.
pub const MOST_ENTRIES: usize = 1_000_000;

/// A message of the server to a party: a notice, `welcome`, `snapshot`, or the response to `call_request`.
#[derive(Debug, Clone)]
pub struct ReceivedMessage {
    /// When it was received.
    pub at: SystemTime,
    /// The role of the party.
    pub role: Role,
    /// The ID of the party, unique in the run.
    pub party: String,
    /// The envelope: `type`, `payload`.
    pub message: Value,
}

/// A time without a working connection.
#[derive(Debug, Clone)]
pub struct Outage {
    /// The party.
    pub party: String,
    /// The last time at which the connection is known to have worked.
    pub from: SystemTime,
    /// The next `welcome`. None: never.
    pub until: Option<SystemTime>,
}

/// An attempt of a step of a call's set-up.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub at: SystemTime,
    /// The party.
    pub party: String,
    /// The step: `call_request`, `rtc_produce`, …
    pub step: &'static str,
    /// The error, if it failed.
    pub failed: Option<String>,
}

/// When the recovery time begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// At the injection: others must take over (a kill).
    Injection,
    /// At the repair: the target recovers by itself (a freeze, a cut, a stall, a total outage).
    Repair,
}

/// An injected fault.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The kind: `worker-kill`, `edge-cut`, …
    pub what: String,
    /// The target.
    pub target: String,
    /// The time of the injection.
    pub injected_at: SystemTime,
    /// The time of the repair. None: never.
    pub repaired_at: Option<SystemTime>,
    /// No other process could take over. The recovery time then begins at the repair, whatever `since` is.
    pub total: bool,
    /// When the recovery time begins.
    pub since: Since,
}

/// The first packet of an RTP stream.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The sender.
    pub party: String,
    /// Its SSRC.
    pub ssrc: u32,
    /// The time just before the first packet with a payload was sent.
    pub first_rtp_at: SystemTime,
}

/// The last packet that a party received in a call.
#[derive(Debug, Clone)]
pub struct Heard {
    /// The call.
    pub call: String,
    /// The party.
    pub party: String,
    /// When its peer sent that packet, at the earliest.
    pub sent_at: SystemTime,
}

/// A grant that the wallet sent. It may be lost, or its worker may be cut off before it can store it.
#[derive(Debug, Clone)]
pub struct SentGrant {
    /// The call.
    pub call: String,
    /// From its connection until then.
    pub until_ms: i64,
    /// When it was sent.
    pub at: SystemTime,
}

/// A step of the wall clock of a process.
#[derive(Debug, Clone)]
pub struct ClockStep {
    /// The process.
    pub process: String,
    /// The true time of the step.
    pub at: SystemTime,
    /// How far the clock is ahead from then on; negative: behind.
    pub offset_ms: i64,
}

/// Identifies an injected fault for its repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(Option<usize>);

/// The run log. Clones write to the same log.
#[derive(Debug, Clone, Default)]
pub struct RunLog(Arc<Mutex<Entries>>);

/// The entries of a run log.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    /// In the order of receipt.
    pub received: Vec<ReceivedMessage>,
    /// In the order of their beginning.
    pub outages: Vec<Outage>,
    /// Indices of outages that the plan caused: there is nothing to recover from.
    pub chosen: BTreeSet<usize>,
    /// In the order of their end.
    pub attempts: Vec<Attempt>,
    /// In the order of injection.
    pub faults: Vec<Fault>,
    /// Disjoint times, in order, in which the hypervisor gave the processors to others.
    pub starved: Vec<(SystemTime, SystemTime)>,
    /// In the order of writing.
    pub sent: Vec<Sent>,
    /// In the order of writing.
    pub heard: Vec<Heard>,
    /// In the order of writing.
    pub grants: Vec<SentGrant>,
    /// In the order of time.
    pub clock_steps: Vec<ClockStep>,
    /// The end of the run. Later notices are not required.
    pub over_at: Option<SystemTime>,
    /// The number of dropped entries.
    pub lost: usize,
    open: HashMap<String, usize>,
}

impl RunLog {
    /// A party received a message.
    pub fn received(&self, received: ReceivedMessage) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        push(&mut entries.received, received, &mut entries.lost);
    }

    /// A party has no connection from that time on. Repetitions are ignored.
    pub fn disconnected(&self, party: &str, from: SystemTime) {
        self.outage(party, from, false);
    }

    /// Like [`disconnected`](Self::disconnected), as planned.
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

    /// A party received `welcome`, which ends its outage.
    pub fn connected(&self, party: &str, until: SystemTime) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        let outage = entries.open.remove(party);
        if let Some(outage) = outage.and_then(|place| entries.outages.get_mut(place)) {
            outage.until = Some(until);
        }
    }

    /// An attempt ended.
    pub fn attempt(&self, attempt: Attempt) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        push(&mut entries.attempts, attempt, &mut entries.lost);
    }

    /// A fault was injected.
    pub fn injected(&self, fault: Fault) -> FaultId {
        let mut entries = self.entries();
        let entries = &mut *entries;
        FaultId(push(&mut entries.faults, fault, &mut entries.lost))
    }

    /// A fault was repaired.
    pub fn repaired(&self, fault: FaultId, at: SystemTime) {
        let mut entries = self.entries();
        if let Some(fault) = fault.0.and_then(|place| entries.faults.get_mut(place)) {
            fault.repaired_at = Some(at);
        }
    }

    /// The hypervisor gave the processors to others. Overlapping times are merged.
    pub fn starved(&self, from: SystemTime, until: SystemTime) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        match entries.starved.last_mut() {
            Some((_, last)) if *last >= from => *last = until,
            _ => drop(push(&mut entries.starved, (from, until), &mut entries.lost)),
        }
    }

    /// The first packet with a payload of a stream was sent.
    pub fn sent(&self, sent: Sent) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        push(&mut entries.sent, sent, &mut entries.lost);
    }

    /// A call of a party that received media is over.
    pub fn heard(&self, heard: Heard) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        push(&mut entries.heard, heard, &mut entries.lost);
    }

    /// The wallet sends a grant.
    pub fn granted(&self, grant: SentGrant) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        push(&mut entries.grants, grant, &mut entries.lost);
    }

    /// The wall clock of a process was stepped.
    pub fn clock_step(&self, step: ClockStep) {
        let mut entries = self.entries();
        let entries = &mut *entries;
        push(&mut entries.clock_steps, step, &mut entries.lost);
    }

    /// The run is over. Only the first call counts.
    pub fn over(&self, at: SystemTime) {
        self.entries().over_at.get_or_insert(at);
    }

    /// Reads the entries. Writers wait meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Entries) -> T) -> T {
        look(&self.entries())
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock()
    }
}

/// The index of the new entry, unless the list is full.
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
