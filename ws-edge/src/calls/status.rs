//! `call_status`: how a call ended, read from storage. A notice reaches only the sockets of its moment.

use contract::wire::request::CallStatus;
use contract::{CallId, Party};
use serde_json::Value;

use super::storage::CallStorage;
use super::{check_party, unknown_call};
use crate::protocol::{Problem, payload};

pub(super) async fn read(storage: &CallStorage, party: &Party, call: &CallId) -> Result<Value, Problem> {
    let state = storage.state(call).await?.ok_or_else(|| unknown_call(call))?;
    check_party(&state.requested.parties, party)?;
    let notice = match state.ended {
        None => None,
        Some(ended) if ended.connected_at.is_none() => ended.notice(),
        // Only the settlement has the bill.
        Some(_) => storage.settled(call).await?.and_then(|settled| settled.notice()),
    };
    Ok(payload(CallStatus { call_id: call, notice }))
}
