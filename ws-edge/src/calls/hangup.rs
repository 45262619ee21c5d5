//! WS-C02 `call_hangup`: either party ends a call that was accepted.

use contract::wire::request::CallOver;
use contract::{CallId, EndReason, Party, Role};
use serde_json::Value;

use super::{Calls, Only};
use crate::protocol::{Code, Problem, payload};

impl Calls {
    pub(super) async fn hangup(&self, party: &Party, call: &CallId) -> Result<Value, Problem> {
        let state = self.state_for(party, call).await?;
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
        let end = self
            .end(call, EndReason::Hangup, party.role().as_str(), Only::Any)
            .await?;
        Ok(payload(CallOver {
            call_id: call,
            ended_at: end.ended_at,
        }))
    }
}
