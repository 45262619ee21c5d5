//! The snapshot of a party's call, read from storage, for clients that connect or reconnect.

use contract::buckets::active_calls::ActiveCall;
use contract::{CallId, Fact, FactError, FactKind, Party, Role};

use super::storage::CallStorage;
use crate::protocol::{CallSnapshot, LastTick, Problem, Snapshot, SnapshotState};

/// Reads snapshots.
#[derive(Debug, Clone)]
pub struct SnapshotReader {
    /// Where the calls are stored.
    pub storage: CallStorage,
}

impl SnapshotReader {
    /// The snapshot of a party's call. Subscribe to its notices first: later changes arrive as notices.
    ///
    /// # Errors
    /// [`Problem`] if the storage does not answer.
    pub async fn read(&self, party: &Party) -> Result<Snapshot, Problem> {
        let active_call = match self.storage.entry(party, None).await? {
            Some(entry) => self.snapshot_of(entry.value, party.role()).await?,
            None => None,
        };
        Ok(Snapshot { active_call })
    }

    async fn snapshot_of(&self, call: ActiveCall, role: Role) -> Result<Option<CallSnapshot>, Problem> {
        let id = &call.parties.call_id;
        let storage = &self.storage;
        let (state, detected, tick, lost) = tokio::try_join!(
            storage.state(id),
            storage.within(storage.facts.last(id, FactKind::RtpDetected)),
            storage.within(storage.facts.last(id, FactKind::Tick)),
            storage.within(self.lost(id)),
        )?;
        // Claimed and not requested yet, or over and not released yet: no call either way.
        let Some(stored) = state.filter(|state| state.ended.is_none()) else {
            return Ok(None);
        };
        let detected = detected.and_then(|stored| match stored.fact {
            Fact::RtpDetected(detected) => Some(detected),
            _ => None,
        });
        let last_tick = tick.and_then(|stored| match stored.fact {
            Fact::Tick(tick) => Some(LastTick {
                minute: tick.minute,
                at: tick.at,
            }),
            _ => None,
        });
        let state = match (&stored.accepted, &detected) {
            (_, Some(_)) => SnapshotState::Connected,
            (Some(_), None) => SnapshotState::Accepted,
            (None, None) => SnapshotState::Ringing,
        };
        let (until_ms, credit_low) = match &stored.requested.grant {
            Some(first) if role == Role::User => {
                let (until_ms, low) = storage.within(self.credit(id, first.until_ms)).await?;
                (Some(until_ms), low)
            }
            _ => (None, false),
        };
        let parties = call.parties;
        Ok(Some(CallSnapshot {
            call_id: parties.call_id,
            user_id: parties.user_id,
            otomo_id: parties.otomo_id,
            state,
            requested_at: stored.requested.requested_at,
            expires_at: (state == SnapshotState::Ringing).then_some(call.ring_deadline),
            accepted_at: stored.accepted.map(|accepted| accepted.accepted_at),
            connected_at: detected.as_ref().map(|detected| detected.connected_at),
            method: detected.map(|detected| detected.method),
            last_tick,
            lost,
            until_ms,
            credit_low,
        }))
    }

    /// The granted duration, and whether the user was warned that it is nearly over.
    async fn credit(&self, call: &CallId, first_ms: u64) -> Result<(u64, bool), FactError> {
        let facts = &self.storage.facts;
        let (granted, low) = tokio::try_join!(
            facts.last(call, FactKind::CreditGranted),
            facts.last(call, FactKind::CreditLow),
        )?;
        let until_ms = match granted.map(|stored| stored.fact) {
            Some(Fact::CreditGranted(granted)) => granted.until_ms,
            _ => first_ms,
        };
        let low = matches!(low.map(|stored| stored.fact), Some(Fact::CreditLow(low)) if low.until_ms == until_ms);
        Ok((until_ms, low))
    }

    /// The parties whose RTP is lost.
    async fn lost(&self, call: &CallId) -> Result<Vec<Role>, FactError> {
        let facts = &self.storage.facts;
        let mut last_change = [(Role::User, 0, false), (Role::Otomo, 0, false)];
        for kind in [FactKind::RtpLost, FactKind::RtpResumed] {
            let Some(last) = facts.last(call, kind).await? else {
                // Nothing was lost, so nothing has returned.
                break;
            };
            for stored in facts.all_of_kind(call, kind, last.sequence).await? {
                let (party, is_lost) = match stored.fact {
                    Fact::RtpLost(lost) => (lost.party, true),
                    Fact::RtpResumed(resumed) => (resumed.party, false),
                    _ => continue,
                };
                for change in last_change
                    .iter_mut()
                    .filter(|change| change.0 == party && change.1 < stored.sequence)
                {
                    *change = (party, stored.sequence, is_lost);
                }
            }
        }
        Ok(last_change
            .into_iter()
            .filter(|change| change.2)
            .map(|change| change.0)
            .collect())
    }
}
