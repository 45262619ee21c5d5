//! The snapshot of a party's call, read from storage, for clients that connect or reconnect.

use contract::buckets::active_calls::ActiveCall;
use contract::{Fact, FactKind, Party};

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
            Some(entry) => self.snapshot_of(entry.value).await?,
            None => None,
        };
        Ok(Snapshot { active_call })
    }

    async fn snapshot_of(&self, call: ActiveCall) -> Result<Option<CallSnapshot>, Problem> {
        let id = &call.parties.call_id;
        let storage = &self.storage;
        let (state, detected, tick) = tokio::try_join!(
            storage.state(id),
            storage.within(storage.facts.last(id, FactKind::RtpDetected)),
            storage.within(storage.facts.last(id, FactKind::Tick)),
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
        }))
    }
}
