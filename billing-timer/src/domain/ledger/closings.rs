//! Calls that are over.

use contract::Timestamp;
use contract::buckets::billing_index::BillingEntry;
use contract::jetstream::bucket::Revised;

use super::{Ledger, Phase};
use crate::domain::step::{Step, step};
use crate::domain::work::{Closing, Position, Ticket};

impl Ledger {
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
            let last = account.position.last.as_ref().map(|last| last.sequence);
            return Some(Closing {
                ticket,
                revision,
                settled,
                stored,
                last,
                trace,
            });
        }
    }

    /// More is stored than the record was made from: this, and when the call began if that is stored.
    pub fn outdated(&mut self, ticket: &Ticket, connected_at: Option<Timestamp>, position: Position, now: Timestamp) {
        let Some(account) = self.account(ticket).filter(|account| account.phase == Phase::Closing) else {
            return;
        };
        account.entry.connected_at = connected_at.or(account.entry.connected_at);
        account.position = position;
        self.decide(&ticket.call, now);
    }

    /// The entry had changed when it was to be taken off the book, to this.
    pub fn changed(&mut self, ticket: &Ticket, entry: Revised<BillingEntry>, now: Timestamp) {
        if self.account(ticket).is_some() {
            self.close(&ticket.call);
            self.open(&ticket.call, entry, now);
        }
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
}
