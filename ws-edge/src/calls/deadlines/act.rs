//! The checks of calls.

use std::time::Duration;

use contract::buckets::active_calls::{Acceptance, ActiveCall};
use contract::{CallId, EndReason, FactKind, Timestamp};

use super::schedule::{CheckResult, Due};
use crate::calls::{Calls, EndError, Only};
use crate::protocol::Problem;

/// Media deadline of an acceptance that is known from the stream alone, from now on.
const MEDIA_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a check. A failure is logged, and the check repeated.
pub(super) async fn on(calls: &Calls, call: ActiveCall, due: Due) -> (CallId, CheckResult) {
    let id = call.parties.call_id.clone();
    let outcome = match due {
        Due::RingTimeout => stop_ringing(calls, &call).await,
        Due::Check => check(calls, &call).await,
        Due::WorkerLost { last_heartbeat } => calls.end_lost(&id, last_heartbeat).await.map(|_| CheckResult::Ended),
    };
    let result = match outcome {
        Ok(result) => result,
        Err(EndError::WorkerAlive) => CheckResult::WorkerHasCall,
        // The node that claimed it died before the request was stored.
        Err(EndError::Unknown(_)) => {
            tracing::info!(call_id = %id, "releasing a call that was never requested");
            calls.release(&call.parties).await;
            CheckResult::Ended
        }
        Err(error) => {
            tracing::warn!(call_id = %id, ?due, %error, "call not ended: retrying");
            CheckResult::Failed
        }
    };
    (id, result)
}

async fn stop_ringing(calls: &Calls, call: &ActiveCall) -> Result<CheckResult, EndError> {
    let id = &call.parties.call_id;
    let node = calls.settings.node_id.as_str();
    match calls.end(id, EndReason::NoAnswer, node, Only::Ringing).await {
        Ok(_) => Ok(CheckResult::Ended),
        Err(EndError::Accepted) => {
            // The accepting node died before it updated the entry.
            if let Some(accepted) = calls.state(id).await?.and_then(|state| state.accepted) {
                let acceptance = Acceptance {
                    accepted_at: accepted.accepted_at,
                    worker_id: accepted.worker_id,
                    media_deadline: Timestamp::now().plus(MEDIA_TIMEOUT),
                };
                calls.write_acceptance(id, acceptance).await;
            }
            Ok(CheckResult::Continues)
        }
        Err(error) => Err(error),
    }
}

async fn check(calls: &Calls, call: &ActiveCall) -> Result<CheckResult, EndError> {
    let id = &call.parties.call_id;
    let state = calls.state(id).await?.ok_or_else(|| EndError::Unknown(id.clone()))?;
    if state.ended.is_some() {
        calls.release(&call.parties).await;
        return Ok(CheckResult::Ended);
    }
    let Some(acceptance) = &call.accepted else {
        return Ok(CheckResult::Continues);
    };
    if calls
        .workers
        .started_after(&acceptance.worker_id, acceptance.accepted_at)
    {
        // Perhaps another process under the same name; it is asked before anything is done.
        return calls.end_lost(id, None).await.map(|_| CheckResult::Ended);
    }
    if Timestamp::now() < acceptance.media_deadline || calls.connected_at(id).await?.is_some() {
        return Ok(CheckResult::Continues);
    }
    let node = calls.settings.node_id.as_str();
    calls
        .end(id, EndReason::MediaTimeout, node, Only::Any)
        .await
        .map(|_| CheckResult::Ended)
}

/// Releases a call if its end is stored. A message on the subject proves nothing by itself.
pub(super) async fn release_if_over(calls: &Calls, call: &CallId) {
    let ended = match calls.within(calls.facts.last(call, FactKind::Ended)).await {
        Ok(ended) => ended,
        Err(problem) => return not_released(call, &problem),
    };
    if let Some(ended) = ended {
        calls.release(ended.fact.parties()).await;
    }
}

fn not_released(call: &CallId, problem: &Problem) {
    tracing::warn!(call_id = %call, %problem, "ended call not removed from active_calls: a later check removes it");
}
