//! The checks of calls.

use std::time::Duration;

use contract::buckets::active_calls::{Acceptance, ActiveCall};
use contract::{CallId, EndReason, FactKind, NodeId};

use super::schedule::{CheckResult, Due};
use crate::calls::end::{CallEnder, EndError, EndScope};
use crate::calls::placement::KnownWorkers;
use crate::calls::storage::CallStorage;

/// Media timeout of an acceptance that is known from the stream alone.
const MEDIA_TIMEOUT: Duration = Duration::from_secs(30);

/// Checks calls, and ends those that are overdue.
#[derive(Debug, Clone)]
pub struct CallChecks {
    /// Reads the calls.
    pub storage: CallStorage,
    /// Ends calls.
    pub ender: CallEnder,
    /// The workers, kept up to date by the watch.
    pub known_workers: KnownWorkers,
    /// This node.
    pub node_id: NodeId,
}

impl CallChecks {
    /// Runs a check. A failure is logged, and the check repeated.
    pub(super) async fn run(&self, call: ActiveCall, due: Due) -> (CallId, CheckResult) {
        let id = call.parties.call_id.clone();
        let outcome = match due {
            Due::RingTimeout => self.stop_ringing(&call).await,
            Due::Check => self.check(&call, false).await,
            Due::MediaTimeout => self.check(&call, true).await,
            Due::WorkerLost => self.ender.end_lost(&id).await.map(|_| CheckResult::Ended),
        };
        let result = match outcome {
            Ok(result) => result,
            Err(EndError::WorkerAlive) => CheckResult::Continues,
            // The node that claimed it died before the request was stored.
            Err(EndError::Unknown(_)) => {
                tracing::info!(call_id = %id, "releasing a call that was never requested");
                self.storage.release(&call.parties).await;
                CheckResult::Ended
            }
            Err(error) => {
                tracing::warn!(call_id = %id, ?due, %error, "call not ended: retrying");
                CheckResult::Failed
            }
        };
        (id, result)
    }

    async fn stop_ringing(&self, call: &ActiveCall) -> Result<CheckResult, EndError> {
        let id = &call.parties.call_id;
        match self.end(id, EndReason::NoAnswer, EndScope::Ringing).await {
            Err(EndError::Accepted) => {
                // The accepting node died before it updated the entry.
                if let Some(accepted) = self.storage.state(id).await?.and_then(|state| state.accepted) {
                    let acceptance = Acceptance {
                        accepted_at: accepted.accepted_at,
                        worker_id: accepted.worker_id,
                        worker_started_at: accepted.worker_started_at,
                        media_deadline: accepted.accepted_at.plus(MEDIA_TIMEOUT),
                    };
                    self.storage.write_acceptance(id, acceptance).await;
                }
                Ok(CheckResult::Continues)
            }
            outcome => outcome,
        }
    }

    async fn check(&self, call: &ActiveCall, media_overdue: bool) -> Result<CheckResult, EndError> {
        let id = &call.parties.call_id;
        if self.storage.is_over(id).await? {
            self.storage.release(&call.parties).await;
            return Ok(CheckResult::Ended);
        }
        let state = self.storage.state(id).await?;
        let state = state.ok_or_else(|| EndError::Unknown(id.clone()))?;
        let Some(accepted) = &state.accepted else {
            return Ok(CheckResult::Continues);
        };
        if self.known_workers.replaced_at(accepted).is_some() {
            return self.ender.end_lost(id).await.map(|_| CheckResult::Ended);
        }
        if !media_overdue || self.storage.connection(id).await?.is_some() {
            return Ok(CheckResult::Continues);
        }
        self.end(id, EndReason::MediaTimeout, EndScope::Any).await
    }

    async fn end(&self, call: &CallId, reason: EndReason, scope: EndScope) -> Result<CheckResult, EndError> {
        let ended = self.ender.end(call, reason, self.node_id.as_str(), scope).await;
        ended.map(|_| CheckResult::Ended)
    }

    /// Releases a call if its end is stored. A message on the subject proves nothing by itself.
    pub(super) async fn release_if_over(&self, call: &CallId) {
        let facts = &self.storage.facts;
        match self.storage.within(facts.last(call, FactKind::Ended)).await {
            Ok(Some(ended)) => self.storage.release(ended.fact.parties()).await,
            Ok(None) => {}
            Err(problem) => {
                tracing::warn!(call_id = %call, %problem, "end of the call not read: retrying");
            }
        }
    }
}
