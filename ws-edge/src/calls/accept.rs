//! WS-C02 `call_accept`: a media-worker opens the call, and the acceptance is stored.

use contract::buckets::active_calls::Acceptance;
use contract::jetstream::notice_publisher::NoticePublisher;
use contract::jetstream::request::CommandError;
use contract::wire::command::CallOpened;
use contract::wire::fact::Accepted;
use contract::wire::request::CallTaken;
use contract::{CallId, Fact, Outcome, Party, PublishCondition, Role, Timestamp, TraceParent, WorkerId, spans};
use serde_json::Value;
use tracing::{Instrument as _, Span};

use super::billing_watch::BillingWatch;
use super::media_worker_client::{MediaWorkerClient, nats_unreachable};
use super::pending_response::PendingResponse;
use super::placement::KnownWorkers;
use super::storage::{CallStorage, StoredCall};
use super::{require, unavailable};
use crate::protocol::{Code, Problem, payload};

/// Workers that are asked before the otomo gets `no_worker`.
const MAX_WORKERS_ASKED: usize = 3;

/// Accepts calls.
#[derive(Debug, Clone)]
pub struct CallAcceptor {
    /// Stores the acceptance.
    pub storage: CallStorage,
    /// For the choice of the worker.
    pub known_workers: KnownWorkers,
    /// Open the call.
    pub workers: MediaWorkerClient,
    /// Whether its minutes can be stored.
    pub billing: BillingWatch,
    /// Sends `call_accepted`.
    pub notices: NoticePublisher,
}

/// A worker that has opened the call, or may have.
#[derive(Debug, Default)]
struct Opening(Option<(WorkerId, TraceParent)>);

impl CallAcceptor {
    /// If the deadline passes before a worker has opened the call, the call rings on. Later the stream decides: an
    /// acceptance that is stored late is stored all the same, and both parties are notified.
    pub(super) async fn accept(
        &self,
        party: &Party,
        call: &CallId,
        answer: &mut PendingResponse,
        span: &Span,
    ) -> Result<Value, Problem> {
        require(party, Role::Otomo, "call_accept")?;
        self.billing.check()?;
        let state = answer.before_deadline(self.storage.state_for(party, call)).await;
        let mut state = state.unwrap_or_else(|| Err(unavailable()))?;
        state.trace = spans::child_of(span, state.trace);
        self.accept_ringing(state, answer).instrument(span.clone()).await
    }

    async fn accept_ringing(&self, state: StoredCall, answer: &mut PendingResponse) -> Result<Value, Problem> {
        let call = state.requested.parties.call_id.clone();
        let mut opening = Opening::default();
        match answer.before_deadline(self.open(state, &mut opening)).await {
            Some(opened) => {
                let (state, worker, opened) = opened?;
                answer.run_to_completion(self.store(state, worker, opened)).await
            }
            None => {
                if let Some((worker, trace)) = opening.0 {
                    self.workers.close_unaccepted(&worker, &call, trace).await;
                }
                Err(unavailable())
            }
        }
    }

    async fn open(
        &self,
        state: StoredCall,
        opening: &mut Opening,
    ) -> Result<(StoredCall, WorkerId, CallOpened), Problem> {
        let call = &state.requested.parties.call_id;
        if state.accepted.is_some() {
            return Err(Problem::new(Code::WrongState, "the call was accepted already"));
        }
        let mut asked = Vec::new();
        let mut failure = Problem::new(Code::NoWorker, "no media-worker has room; try again");
        while asked.len() < MAX_WORKERS_ASKED
            && let Some(worker) = self.known_workers.choose(&asked)
        {
            opening.0 = Some((worker.clone(), state.trace));
            match self.workers.open(&worker, &state.requested, state.trace).await {
                Ok(opened) => return Ok((state, worker, opened)),
                Err(error) => {
                    tracing::warn!(call_id = %call, worker_id = %worker, %error, "worker did not open the call: trying another");
                    if !matches!(error, CommandError::Refused(_)) {
                        // It may have opened the call, and only its reply was lost.
                        self.workers.close_unaccepted(&worker, call, state.trace).await;
                        failure = Problem::new(Code::WorkerUnreachable, "no media-worker answers; try again");
                    }
                    asked.push(worker);
                }
            }
        }
        Err(if self.workers.connected() {
            failure
        } else {
            nats_unreachable()
        })
    }

    async fn store(&self, state: StoredCall, worker_id: WorkerId, opened: CallOpened) -> Result<Value, Problem> {
        let (parties, trace) = (state.requested.parties, state.trace);
        let call = &parties.call_id;
        let accepted_at = Timestamp::now();
        let accepted = Accepted {
            parties: parties.clone(),
            accepted_at,
            worker_id: worker_id.clone(),
            worker_started_at: opened.worker_started_at,
        };
        // Nothing may have happened since the request: a cancellation and an acceptance at once are decided here.
        let condition = PublishCondition::CallUnchangedSince(state.sequence);
        match self.storage.publish(&accepted.clone().into(), condition, trace).await {
            Ok(Outcome::Stored(_) | Outcome::AlreadyStored(_)) => {}
            Ok(Outcome::Superseded(stored)) => {
                if !matches!(&stored.fact, Fact::Accepted(other) if other.worker_id == worker_id) {
                    self.workers.close_unaccepted(&worker_id, call, trace).await;
                }
                return Err(Problem::new(
                    Code::WrongState,
                    "the call was accepted already, on another socket",
                ));
            }
            Ok(Outcome::ConditionFailed) => {
                self.workers.close_unaccepted(&worker_id, call, trace).await;
                return Err(Problem::new(Code::WrongState, "the call is over"));
            }
            // The fact was not stored and never will be.
            Err(problem) => {
                self.workers.close_unaccepted(&worker_id, call, trace).await;
                return Err(problem);
            }
        }
        let acceptance = Acceptance {
            accepted_at,
            worker_id,
            worker_started_at: opened.worker_started_at,
            // By this node's clock: the worker's may differ.
            media_deadline: match opened.media_timeout_ms {
                Some(media_timeout_ms) => accepted_at.plus_millis(media_timeout_ms),
                None => opened.media_deadline,
            },
        };
        self.storage.write_acceptance(call, acceptance).await;
        if let Some(notice) = accepted.notice() {
            self.notices.publish_to_both(&parties, &notice).await;
        }
        tracing::info!(call_id = %call, worker_id = %accepted.worker_id, "call accepted");
        Ok(payload(CallTaken {
            call_id: call,
            accepted_at,
        }))
    }
}
