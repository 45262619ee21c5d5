//! All calls being billed, and what is to be done for them next.
//!
//! The ledger does nothing itself. It hands out work (read a call's position, store a batch of ticks, settle a call, ask for
//! an end), each with a [`Ticket`], and is told how it went. At any moment a call is in one piece of work at most, so a
//! batch never holds two ticks of one call. A ticket of a call that has left the book meanwhile is worth nothing: what
//! comes back with it is ignored.

mod reads;

mod ticks;

mod closings;

mod deadlines;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use contract::buckets::billing_index::BillingEntry;
use contract::jetstream::bucket::Revised;
use contract::wire::fact::Tick;
use contract::{CallId, Timestamp};

use super::schedule::Schedule;
use super::step::{Step, deadline, step};
use super::terms::Terms;
use super::work::{Position, Ticket};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its position is being read, or waits to be.
    Reading,
    /// It waits for its next tick's time, or for news.
    Waiting,
    /// Its next tick is due.
    Due,
    /// Its next tick is being stored.
    Writing,
    /// It is being settled, or waits to be.
    Closing,
}

#[derive(Debug)]
struct Account {
    visit: u64,
    entry: BillingEntry,
    revision: u64,
    phase: Phase,
    position: Position,
    sent: Option<Tick>,
    refusals: u32,
    asks: u32,
    asking: bool,
}

/// All calls being billed. Bounded by the book, and so by the fleet's capacity.
#[derive(Debug)]
pub struct Ledger {
    terms: Terms,
    max_batch: usize,
    visits: u64,
    accounts: HashMap<CallId, Account>,
    /// When a call's next tick is due, or its position is to be read again.
    wakes: Schedule<CallId>,
    /// When a call is (again) to be asked to end.
    deadlines: Schedule<CallId>,
    to_read: VecDeque<Ticket>,
    due: VecDeque<Ticket>,
    suspects: VecDeque<Ticket>,
    to_close: VecDeque<Ticket>,
}

impl Ledger {
    /// An empty ledger; `max_batch` is the most ticks to be stored at once.
    pub fn new(terms: Terms, max_batch: usize) -> Self {
        Self {
            terms,
            max_batch,
            visits: 0,
            accounts: HashMap::new(),
            wakes: Schedule::default(),
            deadlines: Schedule::default(),
            to_read: VecDeque::new(),
            due: VecDeque::new(),
            suspects: VecDeque::new(),
            to_close: VecDeque::new(),
        }
    }

    /// How many calls are on it.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether no call is on it.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// The call's entry is on the book as this.
    pub fn open(&mut self, call: &CallId, entry: Revised<BillingEntry>, now: Timestamp) {
        let Revised { value: entry, revision } = entry;
        let deadline = deadline(&entry, &self.terms);
        let mut asking = false;
        match self.accounts.get_mut(call) {
            Some(account) => {
                account.entry = entry;
                account.revision = revision;
                asking = account.asking;
                if account.phase == Phase::Waiting {
                    self.decide(call, now);
                }
            }
            None => self.visit(call, entry, revision),
        }
        match deadline {
            None => self.deadlines.cancel(call),
            // One that was asked already keeps its turn.
            Some(_) if asking || self.deadlines.contains(call) => {}
            Some(deadline) => self.deadlines.set(call.clone(), deadline),
        }
    }

    fn visit(&mut self, call: &CallId, entry: BillingEntry, revision: u64) {
        self.visits += 1;
        let visit = self.visits;
        let account = Account {
            visit,
            entry,
            revision,
            phase: Phase::Reading,
            position: Position::default(),
            sent: None,
            refusals: 0,
            asks: 0,
            asking: false,
        };
        self.accounts.insert(call.clone(), account);
        self.to_read.push_back(Ticket {
            call: call.clone(),
            visit,
        });
    }

    /// The call is off the book.
    pub fn close(&mut self, call: &CallId) {
        self.accounts.remove(call);
        self.wakes.cancel(call);
        self.deadlines.cancel(call);
    }

    /// Nothing is known any more: the book will be read from its beginning. Work that is out goes on, and counts for nothing.
    pub fn forget(&mut self) {
        self.accounts.clear();
        self.wakes.clear();
        self.deadlines.clear();
        for queue in [&mut self.to_read, &mut self.due, &mut self.suspects, &mut self.to_close] {
            queue.clear();
        }
    }

    /// When something will be due by itself.
    pub fn next_wake(&self) -> Option<Timestamp> {
        [self.wakes.next(), self.deadlines.next()].into_iter().flatten().min()
    }

    /// Looks which calls are due.
    pub fn wake(&mut self, now: Timestamp) {
        while let Some(call) = self.wakes.pop(now) {
            match self.accounts.get(&call) {
                Some(account) if account.phase == Phase::Reading => {
                    let visit = account.visit;
                    self.to_read.push_back(Ticket { call, visit });
                }
                _ => self.decide(&call, now),
            }
        }
    }

    fn account(&mut self, ticket: &Ticket) -> Option<&mut Account> {
        self.accounts
            .get_mut(&ticket.call)
            .filter(|account| account.visit == ticket.visit)
    }

    fn decide(&mut self, call: &CallId, now: Timestamp) {
        let Some(account) = self.accounts.get_mut(call) else {
            return;
        };
        let ticket = Ticket {
            call: call.clone(),
            visit: account.visit,
        };
        let next = match &account.position.settled {
            Some(settled) => Step::Settle(settled.clone()),
            None => step(&account.entry, account.position.last.as_ref(), &self.terms, now),
        };
        self.wakes.cancel(call);
        account.phase = match next {
            Step::Tick(_) if account.refusals == 0 => {
                self.due.push_back(ticket);
                Phase::Due
            }
            Step::Tick(_) => {
                self.suspects.push_back(ticket);
                Phase::Due
            }
            Step::Wait(at) => {
                self.wakes.set(call.clone(), at);
                Phase::Waiting
            }
            Step::Settle(_) => {
                self.to_close.push_back(ticket);
                Phase::Closing
            }
            Step::Rest => Phase::Waiting,
        };
    }
}
