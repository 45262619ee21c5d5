//! The snapshot of a party's call, read from storage, for clients that connect or reconnect.

use contract::buckets::active_calls::ActiveCall;
use contract::wire::fact::Method;
use contract::{CallId, Fact, FactKind, OtomoId, Party, Timestamp, UserId};
use schemars::JsonSchema;
use serde::Serialize;

use crate::calls::Calls;
use crate::protocol::Problem;

/// A call that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    call_id: CallId,
    user_id: UserId,
    otomo_id: OtomoId,
    state: State,
    requested_at: Timestamp,
    /// While it rings.
    expires_at: Option<Timestamp>,
    accepted_at: Option<Timestamp>,
    /// The original one, from the stream.
    connected_at: Option<Timestamp>,
    method: Option<Method>,
    last_tick: Option<LastTick>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
#[serde(rename_all = "snake_case")]
enum State {
    Ringing,
    Accepted,
    Connected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
struct LastTick {
    minute: u32,
    at: Timestamp,
}

/// The payload of `snapshot`, and part of that of `welcome`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Null if the party is in no call.
    pub active_call: Option<Snapshot>,
}

/// The payload of `welcome`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Welcome<'a> {
    /// This socket's name in logs.
    pub session_id: &'a str,
    /// Where the party's call stands.
    #[serde(flatten)]
    pub standing: Standing,
}

impl Calls {
    /// The snapshot of a party's call. Subscribe to its notices first: later changes arrive as notices.
    ///
    /// # Errors
    /// [`Problem`] if the storage does not answer.
    pub async fn snapshot(&self, party: &Party) -> Result<Standing, Problem> {
        let active_call = match self.within(self.active.of_party(party)).await? {
            Some(entry) => self.snapshot_of(entry.value).await?,
            None => None,
        };
        Ok(Standing { active_call })
    }

    async fn snapshot_of(&self, call: ActiveCall) -> Result<Option<Snapshot>, Problem> {
        let id = &call.parties.call_id;
        let (standing, detected, tick) = tokio::try_join!(
            self.state(id),
            self.within(self.facts.last(id, FactKind::RtpDetected)),
            self.within(self.facts.last(id, FactKind::Tick)),
        )?;
        // Claimed and not requested yet, or over and not released yet: no call either way.
        let Some(standing) = standing.filter(|standing| standing.ended.is_none()) else {
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
        let state = match (&standing.accepted, &detected) {
            (_, Some(_)) => State::Connected,
            (Some(_), None) => State::Accepted,
            (None, None) => State::Ringing,
        };
        let parties = call.parties;
        Ok(Some(Snapshot {
            call_id: parties.call_id,
            user_id: parties.user_id,
            otomo_id: parties.otomo_id,
            state,
            requested_at: standing.requested.requested_at,
            expires_at: (state == State::Ringing).then_some(call.ring_deadline),
            accepted_at: standing.accepted.map(|accepted| accepted.accepted_at),
            connected_at: detected.as_ref().map(|detected| detected.connected_at),
            method: detected.map(|detected| detected.method),
            last_tick,
        }))
    }
}
