//! WS-C02 `call_reject`, `call_cancel` and `call_hangup`: a party ends a call.

use contract::wire::request::CallOver;
use contract::{CallId, EndReason, Party, Role};
use serde_json::Value;

use super::end::{CallEnder, EndError, EndScope};
use super::require;
use crate::protocol::{Code, Problem, payload};

pub(super) async fn reject(ender: &CallEnder, party: &Party, call: &CallId) -> Result<Value, Problem> {
    require(party, Role::Otomo, "call_reject")?;
    end_ringing(ender, party, call, EndReason::Rejected).await
}

pub(super) async fn cancel(ender: &CallEnder, party: &Party, call: &CallId) -> Result<Value, Problem> {
    require(party, Role::User, "call_cancel")?;
    end_ringing(ender, party, call, EndReason::Cancelled).await
}

async fn end_ringing(ender: &CallEnder, party: &Party, call: &CallId, reason: EndReason) -> Result<Value, Problem> {
    ender.storage.state_for(party, call).await?;
    match ender.end(call, reason, party.role().as_str(), EndScope::Ringing).await {
        Ok(end) => Ok(payload(CallOver {
            call_id: call,
            ended_at: end.ended_at,
        })),
        Err(EndError::Accepted) => Err(Problem::new(
            Code::WrongState,
            "the call was accepted already: use call_hangup",
        )),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn hangup(ender: &CallEnder, party: &Party, call: &CallId) -> Result<Value, Problem> {
    let state = ender.storage.state_for(party, call).await?;
    if state.accepted.is_none() {
        let instead = match party.role() {
            Role::User => "call_cancel",
            Role::Otomo => "call_reject",
        };
        return Err(Problem::new(
            Code::WrongState,
            format!("the call still rings: use {instead}"),
        ));
    }
    let by = party.role().as_str();
    let end = ender.end(call, EndReason::Hangup, by, EndScope::Any).await?;
    Ok(payload(CallOver {
        call_id: call,
        ended_at: end.ended_at,
    }))
}
