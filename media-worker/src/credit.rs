//! How long a call with credit control may last: a pure state machine. Grants and `now` go in, actions come out.
//!
//! The time that is granted counts from the connection, on the monotonic clock. Nothing outside of this process can delay
//! the end: neither NATS nor the wallet nor a step of the wall clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::CreditExtended;
use contract::wire::credit::Grant;
use contract::{GrantId, Timestamp};

use crate::clock_reading::ClockReading;

/// Grants of one call whose identifiers are remembered; further ones are refused.
const GRANTS_MAX: usize = 1024;

/// The settings of credit control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditSettings {
    /// The wallet is warned so long before the granted time is over.
    pub low_before: Duration,
}

/// What follows for the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreditAction {
    /// The granted time is nearly over.
    Low {
        /// The grant, and the duration in all.
        grant: Grant,
        /// The granted time that is left, in milliseconds.
        remaining_ms: u64,
        /// When so much is left: `connectedAt` plus the elapsed monotonic time.
        at: Timestamp,
    },
    /// The granted time is over: the media stops now.
    Exhausted {
        /// `connectedAt` plus the granted duration.
        ended_at: Timestamp,
    },
}

/// The credit of one call.
#[derive(Debug)]
pub struct Credit {
    settings: CreditSettings,
    interval_ms: u64,
    current: Grant,
    known: HashMap<GrantId, u64>,
    connected: Option<ClockReading>,
    warned: bool,
    over: bool,
}

impl Credit {
    /// A call that is not connected yet, with its first grant. Grants are multiples of `interval_ms`, as billed minutes are.
    ///
    /// # Errors
    /// `invalid_grant`
    pub fn new(settings: CreditSettings, interval_ms: u64, first: Grant) -> Result<Self, Refusal> {
        let credit = Self {
            known: HashMap::from([(first.grant_id.clone(), first.until_ms)]),
            settings,
            interval_ms,
            current: first,
            connected: None,
            warned: false,
            over: false,
        };
        credit.check(&credit.current)?;
        Ok(credit)
    }

    /// The longest grant.
    pub fn grant(&self) -> &Grant {
        &self.current
    }

    /// The granted time counts from now on.
    pub fn connected(&mut self, at: ClockReading) {
        self.connected.get_or_insert(at);
    }

    /// Takes a grant. It never shortens the call, and the same grant again changes nothing.
    ///
    /// # Errors
    /// `invalid_grant`; `wrong_state` if the granted time is over, or the call has had too many grants.
    pub fn extend(&mut self, grant: Grant, now: Instant) -> Result<CreditExtended, Refusal> {
        self.check(&grant)?;
        if let Some(until_ms) = self.known.get(&grant.grant_id)
            && *until_ms != grant.until_ms
        {
            let what = format!("grantId: was granted with untilMs {until_ms}");
            return Err(Refusal::new(RefusalCode::InvalidGrant, what));
        }
        if self.over {
            return Err(Refusal::new(RefusalCode::WrongState, "the call is over"));
        }
        if self.end().is_some_and(|end| now >= end) {
            return Err(Refusal::new(RefusalCode::WrongState, "the granted time is over"));
        }
        let superseded = grant.until_ms <= self.current.until_ms;
        if !superseded {
            if self.known.len() >= GRANTS_MAX {
                return Err(Refusal::new(
                    RefusalCode::WrongState,
                    "the call has had too many grants",
                ));
            }
            self.known.insert(grant.grant_id.clone(), grant.until_ms);
            self.current = grant;
            self.warned = false;
        }
        Ok(CreditExtended {
            until_ms: self.current.until_ms,
            superseded,
        })
    }

    /// The call is over: nothing extends it, and nothing is due.
    pub fn close(&mut self) {
        self.over = true;
    }

    /// When [`Credit::act`] has something to do; `None` before the connection and after the end.
    pub fn due(&self) -> Option<Instant> {
        let end = self.end().filter(|_| !self.over)?;
        let warning = end.checked_sub(self.settings.low_before).filter(|_| !self.warned);
        Some(warning.unwrap_or(end))
    }

    /// The action that is due, if any.
    pub fn act(&mut self, now: ClockReading) -> Option<CreditAction> {
        let connected = self.connected?;
        if self.over || self.due().is_none_or(|due| now.instant < due) {
            return None;
        }
        if let Some(ended_at) = self.exhausted_at(now.instant) {
            self.over = true;
            return Some(CreditAction::Exhausted { ended_at });
        }
        self.warned = true;
        let elapsed = now.since(connected);
        let remaining = Duration::from_millis(self.current.until_ms).saturating_sub(elapsed);
        Some(CreditAction::Low {
            grant: self.current.clone(),
            remaining_ms: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX),
            at: connected.wall.plus(elapsed),
        })
    }

    /// `connectedAt` plus the granted duration, if that was over at `now`.
    pub fn exhausted_at(&self, now: Instant) -> Option<Timestamp> {
        let (connected, end) = (self.connected?, self.end()?);
        (now >= end).then(|| connected.wall.plus(Duration::from_millis(self.current.until_ms)))
    }

    fn end(&self) -> Option<Instant> {
        let granted = Duration::from_millis(self.current.until_ms);
        self.connected?.instant.checked_add(granted)
    }

    fn check(&self, grant: &Grant) -> Result<(), Refusal> {
        grant
            .check(self.interval_ms)
            .map_err(|error| Refusal::new(RefusalCode::InvalidGrant, error.to_string()))
    }
}

#[cfg(test)]
mod tests;
