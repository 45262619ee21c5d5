//! All calls being billed, and what is to be done for them next.
//!
//! The ledger does nothing itself. It hands out work (read a call's position, store a batch of ticks, settle a call, ask for
//! an end), each with a [`Ticket`], and is told how it went. At any moment a call is in one piece of work at most, so a
//! batch never holds two ticks of one call. A ticket of a call that has left the book meanwhile is worth nothing: what
//! comes back with it is ignored.

use std::collections::{HashMap, VecDeque};

use nats::billing_book::BillingEntry;
use nats::bucket::Revised;
use nats::fact::Tick;
use nats::{CallId, Timestamp};

use super::chain::{self, LastTick};
use super::schedule::Schedule;
use super::step::{self, Step, deadline, step};
use super::terms::Terms;
use super::work::{Closing, DueTick, NotWritten, Position, Reading, Ticket};

/// First wait until a call is asked again to end.
const ASK_DELAY_MIN_MS: u64 = 1_000;
/// Longest such wait.
const ASK_DELAY_MAX_MS: u64 = 60_000;
/// A call's ticks go in batches smaller by this factor after each refusal, so that one that is always refused is soon alone.
const ISOLATION_FACTOR: usize = 8;

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

    /// The call of this ticket was taken off the book, as it stood at `revision`.
    pub fn closed(&mut self, ticket: &Ticket, revision: u64) {
        let Some(account) = self.account(ticket) else { return };
        if account.revision == revision {
            self.close(&ticket.call);
        } else {
            // Entered again meanwhile, by a fact that was delivered twice.
            account.phase = Phase::Reading;
            self.to_read.push_back(ticket.clone());
        }
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

    /// A call whose position must be read.
    pub fn next_read(&mut self) -> Option<Ticket> {
        loop {
            let ticket = self.to_read.pop_front()?;
            if self.account(&ticket).is_some() {
                return Some(ticket);
            }
        }
    }

    /// What was read of a call.
    pub fn read(&mut self, ticket: &Ticket, position: Position, now: Timestamp) -> Reading {
        let terms = self.terms;
        let Some(account) = self.account(ticket).filter(|account| account.phase == Phase::Reading) else {
            return Reading::default();
        };
        let last = position.last.as_ref();
        let sent = account.sent.take();
        let reading = Reading {
            confirmed: sent.filter(|sent| last.is_some_and(|last| last.tick == *sent)),
            contradiction: step::contradiction(&account.entry, last, &terms),
        };
        account.position = position;
        self.decide(&ticket.call, now);
        reading
    }

    /// A call's position could not be read: it is to be tried again at `retry_at`.
    pub fn not_read(&mut self, ticket: &Ticket, retry_at: Timestamp) {
        if self.account(ticket).is_some() {
            self.wakes.set(ticket.call.clone(), retry_at);
        }
    }

    /// Ticks that are due, at most one a call; empty if there are none.
    pub fn next_batch(&mut self, now: Timestamp) -> Vec<DueTick> {
        let mut batch = Vec::new();
        while batch.len() < self.max_batch {
            let Some(ticket) = self.due.pop_front() else { break };
            batch.extend(self.take_due(ticket, now));
        }
        while batch.is_empty() {
            let Some(first) = self.suspects.pop_front() else { break };
            let refusals = self.account(&first).map_or(0, |account| account.refusals);
            let size = self.max_batch / ISOLATION_FACTOR.saturating_pow(refusals);
            batch.extend(self.take_due(first, now));
            while batch.len() < size {
                let Some(ticket) = self.suspects.pop_front() else { break };
                batch.extend(self.take_due(ticket, now));
            }
        }
        batch
    }

    fn take_due(&mut self, ticket: Ticket, now: Timestamp) -> Option<DueTick> {
        let terms = self.terms;
        let account = self.account(&ticket).filter(|account| account.phase == Phase::Due)?;
        // Asked again: the call may have ended since it became due.
        let Step::Tick(tick) = step(&account.entry, account.position.last.as_ref(), &terms, now) else {
            self.decide(&ticket.call, now);
            return None;
        };
        account.phase = Phase::Writing;
        account.sent = Some(tick.clone());
        let (guard, trace) = (chain::guard(account.position.last.as_ref()), account.entry.traceparent);
        Some(DueTick {
            ticket,
            tick,
            guard,
            trace,
        })
    }

    /// A tick is stored under this sequence.
    pub fn written(&mut self, ticket: &Ticket, sequence: u64, now: Timestamp) {
        let Some(account) = self.account(ticket).filter(|account| account.phase == Phase::Writing) else {
            return;
        };
        account.refusals = 0;
        if let Some(tick) = account.sent.take() {
            account.position.last = Some(LastTick { tick, sequence });
        }
        self.decide(&ticket.call, now);
    }

    /// A tick is not known to be stored: what is stored will be read back.
    pub fn not_written(&mut self, ticket: &Ticket, why: NotWritten) {
        let Some(account) = self.account(ticket).filter(|account| account.phase == Phase::Writing) else {
            return;
        };
        account.refusals = match why {
            NotWritten::Refused => account.refusals.saturating_add(1),
            NotWritten::Unanswered => account.refusals,
        };
        account.phase = Phase::Reading;
        self.to_read.push_back(ticket.clone());
    }

    /// A call to be settled and taken off the book.
    pub fn next_closing(&mut self, now: Timestamp) -> Option<Closing> {
        let terms = self.terms;
        loop {
            let ticket = self.to_close.pop_front()?;
            let Some(account) = self.account(&ticket) else { continue };
            let (settled, stored) = match &account.position.settled {
                Some(settled) => (settled.clone(), true),
                None => match step(&account.entry, account.position.last.as_ref(), &terms, now) {
                    Step::Settle(settled) => (settled, false),
                    _ => {
                        self.decide(&ticket.call, now);
                        continue;
                    }
                },
            };
            let (revision, trace) = (account.revision, account.entry.traceparent);
            return Some(Closing {
                ticket,
                revision,
                settled,
                stored,
                trace,
            });
        }
    }

    /// The entry had changed when it was to be taken off the book, to this.
    pub fn changed(&mut self, ticket: &Ticket, entry: Revised<BillingEntry>, now: Timestamp) {
        if self.account(ticket).is_some() {
            self.close(&ticket.call);
            self.open(&ticket.call, entry, now);
        }
    }

    /// A call that has lasted for as long as it may.
    pub fn next_overdue(&mut self, now: Timestamp) -> Option<Ticket> {
        loop {
            let call = self.deadlines.pop(now)?;
            if let Some(account) = self.accounts.get_mut(&call) {
                account.asking = true;
                return Some(Ticket {
                    visit: account.visit,
                    call,
                });
            }
        }
    }

    /// Somebody was asked to end the call. If no end shows up, it is asked for again, ever more rarely.
    pub fn asked_to_end(&mut self, ticket: &Ticket, now: Timestamp) {
        let Some(account) = self.account(ticket) else { return };
        account.asking = false;
        if account.entry.end.is_some() {
            return;
        }
        let delay = ASK_DELAY_MIN_MS
            .saturating_mul(1 << account.asks.min(16))
            .min(ASK_DELAY_MAX_MS);
        account.asks = account.asks.saturating_add(1);
        self.deadlines.set(ticket.call.clone(), now.plus_millis(delay));
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
