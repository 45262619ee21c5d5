//! WS-C02 `call_reject`, `call_cancel` and `call_hangup`: a party ends a call.

use contract::wire::request::CallOver;
use contract::{CallId, EndReason, Party, Role, spans};
use serde_json::Value;
use tracing::{Instrument as _, Span};

use super::end::{CallEnder, EndError, EndScope};
use super::require;
use crate::protocol::{Code, Problem, payload};

pub(super) async fn reject(ender: &CallEnder, party: &Party, call: &CallId, span: &Span) -> Result<Value, Problem> {
    require(party, Role::Otomo, "call_reject")?;
    end_ringing(ender, party, call, EndReason::Rejected, span).await
}

pub(super) async fn cancel(ender: &CallEnder, party: &Party, call: &CallId, span: &Span) -> Result<Value, Problem> {
    require(party, Role::User, "call_cancel")?;
    end_ringing(ender, party, call, EndReason::Cancelled, span).await
}

async fn end_ringing(
    ender: &CallEnder,
    party: &Party,
    call: &CallId,
    reason: EndReason,
    span: &Span,
) -> Result<Value, Problem> {
    let state = ender.storage.state_for(party, call).await?;
    spans::child_of(span, state.trace);
    let ending = ender.end(call, reason, party.role().as_str(), EndScope::Ringing);
    match ending.instrument(span.clone()).await {
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

pub(super) async fn hangup(ender: &CallEnder, party: &Party, call: &CallId, span: &Span) -> Result<Value, Problem> {
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
    spans::child_of(span, state.trace);
    let ending = ender.end(call, EndReason::Hangup, party.role().as_str(), EndScope::Any);
    let end = ending.instrument(span.clone()).await?;
    Ok(payload(CallOver {
        call_id: call,
        ended_at: end.ended_at,
    }))
}
