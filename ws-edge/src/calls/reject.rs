//! WS-C02 `call_reject` and `call_cancel`: a call ends before anybody took it.

use contract::wire::request::CallOver;
use contract::{CallId, EndReason, Party, Role};
use serde_json::Value;

use super::{Calls, EndError, Only, require};
use crate::protocol::{Code, Problem, payload};

impl Calls {
    pub(super) async fn reject(&self, party: &Party, call: &CallId) -> Result<Value, Problem> {
        require(party, Role::Otomo, "call_reject")?;
        self.end_ringing(party, call, EndReason::Rejected).await
    }

    pub(super) async fn cancel(&self, party: &Party, call: &CallId) -> Result<Value, Problem> {
        require(party, Role::User, "call_cancel")?;
        self.end_ringing(party, call, EndReason::Cancelled).await
    }

    async fn end_ringing(&self, party: &Party, call: &CallId, reason: EndReason) -> Result<Value, Problem> {
        self.state_for(party, call).await?;
        match self.end(call, reason, party.role().as_str(), Only::Ringing).await {
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
}
