//! Calls that have lasted for as long as they may.

use contract::Timestamp;

use super::Ledger;
use crate::domain::work::Ticket;

/// First wait until a call is asked again to end.
const ASK_DELAY_MIN_MS: u64 = 1_000;
/// Longest such wait.
const ASK_DELAY_MAX_MS: u64 = 60_000;

impl Ledger {
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
}
