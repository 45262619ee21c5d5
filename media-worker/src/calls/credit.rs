//! The credit of one call: takes its grants, and acts when the granted time is nearly or completely over.
//!
//! Builds the facts `credit_low` and `credit_granted`. [`Credit`](crate::credit::Credit) decides what is due and which grants are taken.

use std::time::Instant;

use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::CreditExtended;
use contract::wire::credit::Grant;
use contract::wire::fact::{CreditGranted, CreditLow};
use contract::{EndReason, Timestamp};

use super::call::Call;
use crate::clock_reading::ClockReading;
use crate::credit::CreditAction;
use crate::fact_publisher::CallEnd;

impl Call {
    /// Whether the wallet limits its duration.
    pub fn has_credit_control(&self) -> bool {
        self.credit.is_some()
    }

    /// The granted time counts from the connection.
    pub(super) fn start_credit(&self, connected: ClockReading) {
        if let Some(credit) = &self.credit {
            credit.lock().connected(connected);
            self.credit_changed.notify_one();
        }
    }

    /// When [`Call::act_on_credit`] has something to do.
    pub fn credit_due(&self) -> Option<Instant> {
        self.credit.as_ref()?.lock().due()
    }

    /// Waits until that may have changed.
    pub async fn credit_changed(&self) {
        self.credit_changed.notified().await;
    }

    /// Queues the warning if it is due, and returns the end of the call if its granted time is over.
    pub fn act_on_credit(&self) -> Option<CallEnd> {
        let now = ClockReading::now();
        match self.credit.as_ref()?.lock().act(now)? {
            CreditAction::Low {
                grant,
                remaining_ms,
                at,
            } => {
                let low = CreditLow {
                    parties: self.parties.clone(),
                    grant_id: grant.grant_id,
                    remaining_ms,
                    until_ms: grant.until_ms,
                    at,
                };
                self.facts.publish(low, now.instant);
                None
            }
            CreditAction::Exhausted { ended_at } => Some(self.end_at_credit(ended_at, now)),
        }
    }

    /// The end at the granted time, if that was over at `at`. A process that did not run for a while may learn of another end first.
    pub(super) fn exhausted(&self, at: ClockReading) -> Option<CallEnd> {
        let ended_at = self.credit.as_ref()?.lock().exhausted_at(at.instant)?;
        Some(self.end_at_credit(ended_at, at))
    }

    fn end_at_credit(&self, ended_at: Timestamp, now: ClockReading) -> CallEnd {
        let ended = self.connected.get().map_or(now, |connected| {
            now.minus(now.since(connected.plus(ended_at.until(connected.wall))))
        });
        self.end_by_worker(EndReason::CreditExhausted, ended)
    }

    /// Takes a grant, and queues its fact if it extends the call.
    ///
    /// # Errors
    /// `invalid_grant`; `wrong_state` if the call has no credit control, or is over.
    pub fn extend_credit(&self, grant: Grant) -> Result<CreditExtended, Refusal> {
        let credit = self.credit.as_ref();
        let credit = credit.ok_or_else(|| Refusal::new(RefusalCode::WrongState, "the call has no credit control"))?;
        let now = ClockReading::now();
        let mut credit = credit.lock();
        if !self.facts.has_room() {
            return Err(Refusal::new(
                RefusalCode::Internal,
                "too many facts of the call wait for NATS",
            ));
        }
        let extended = credit.extend(grant.clone(), now.instant)?;
        if !extended.superseded {
            // Under the lock: the facts are in the order of the grants.
            let granted = CreditGranted {
                parties: self.parties.clone(),
                grant_id: grant.grant_id,
                until_ms: grant.until_ms,
                granted_at: now.wall,
            };
            self.facts.publish(granted, now.instant);
            self.credit_changed.notify_one();
        }
        Ok(extended)
    }

    /// No grant extends the call any more.
    pub(super) fn close_credit(&self) {
        if let Some(credit) = &self.credit {
            credit.lock().close();
        }
    }
}
