//! What is done when something is due.

use std::time::Duration;

use contract::buckets::active_calls::{Acceptance, ActiveCall};
use contract::{CallId, EndReason, FactKind, Timestamp};

use super::schedule::{Due, Learnt};
use crate::calls::{Calls, EndError, Only};
use crate::protocol::Problem;

/// Media deadline of an acceptance that is known from the stream alone, from now on.
const MEDIA_TIMEOUT: Duration = Duration::from_secs(30);

/// Does it. A failure is logged; the call comes up again.
pub(super) async fn on(calls: &Calls, call: ActiveCall, due: Due) -> (CallId, Learnt) {
    let id = call.parties.call_id.clone();
    let outcome = match due {
        Due::RingOver => stop_ringing(calls, &call).await,
        Due::Check => check(calls, &call).await,
        Due::WorkerLost { last_sign } => calls.end_lost(&id, last_sign).await.map(|_| Learnt::Over),
    };
    let learnt = match outcome {
        Ok(learnt) => learnt,
        Err(EndError::WorkerAlive) => Learnt::WorkerAnswers,
        // Claimed, and whoever claimed it died before the request was stored.
        Err(EndError::Unknown(_)) => {
            tracing::info!(call_id = %id, "releasing a call that was never requested");
            calls.release(&call.parties).await;
            Learnt::Over
        }
        Err(error) => {
            tracing::warn!(call_id = %id, ?due, %error, "a call was not ended, trying again");
            Learnt::Failed
        }
    };
    (id, learnt)
}

async fn stop_ringing(calls: &Calls, call: &ActiveCall) -> Result<Learnt, EndError> {
    let id = &call.parties.call_id;
    let node = calls.settings.node_id.as_str();
    match calls.end(id, EndReason::NoAnswer, node, Only::Ringing).await {
        Ok(_) => Ok(Learnt::Over),
        Err(EndError::Accepted) => {
            // Whoever accepted it died before it wrote so into the entry.
            if let Some(accepted) = calls.standing(id).await?.and_then(|standing| standing.accepted) {
                let acceptance = Acceptance {
                    accepted_at: accepted.accepted_at,
                    worker_id: accepted.worker_id,
                    media_deadline: Timestamp::now().plus(MEDIA_TIMEOUT),
                };
                calls.write_acceptance(id, acceptance).await;
            }
            Ok(Learnt::GoesOn)
        }
        Err(error) => Err(error),
    }
}

async fn check(calls: &Calls, call: &ActiveCall) -> Result<Learnt, EndError> {
    let id = &call.parties.call_id;
    let standing = calls.standing(id).await?.ok_or_else(|| EndError::Unknown(id.clone()))?;
    if standing.ended.is_some() {
        calls.release(&call.parties).await;
        return Ok(Learnt::Over);
    }
    let Some(acceptance) = &call.accepted else {
        return Ok(Learnt::GoesOn);
    };
    if calls
        .workers
        .started_after(&acceptance.worker_id, acceptance.accepted_at)
    {
        // Perhaps another process under the same name; it is asked before anything is done.
        return calls.end_lost(id, None).await.map(|_| Learnt::Over);
    }
    if Timestamp::now() < acceptance.media_deadline || calls.connected_at(id).await?.is_some() {
        return Ok(Learnt::GoesOn);
    }
    let node = calls.settings.node_id.as_str();
    calls
        .end(id, EndReason::MediaTimeout, node, Only::Any)
        .await
        .map(|_| Learnt::Over)
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
    tracing::warn!(call_id = %call, %problem, "a call that is over is still in active_calls");
}
