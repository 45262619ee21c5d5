//! Positions: what the stream says of a call.

use contract::Timestamp;

use super::{Ledger, Phase};
use crate::domain::step;
use crate::domain::work::{Position, Reading, Ticket};

impl Ledger {
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
}
