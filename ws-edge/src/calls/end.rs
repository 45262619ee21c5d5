//! The end of a call, on any request: exactly one `ended` is stored.
//!
//! This node ends a ringing call. The worker of an accepted call ends it, because the worker knows when the last packet came;
//! if the worker is lost, this node ends that call too.

use contract::jetstream::notice_publisher::NoticePublisher;
use contract::jetstream::request::{CommandError, RefusalCode};
use contract::jetstream::storage::WORKER_TTL;
use contract::wire::command;
use contract::wire::command::{CallClosed, CloseCall};
use contract::wire::fact::{Accepted, Ended};
use contract::{CallId, EndReason, Fact, Outcome, PublishCondition, Timestamp, call_span, spans};
use thiserror::Error;
use tracing::{Instrument as _, Span};

use super::media_worker_client::MediaWorkerClient;
use super::placement::{KnownWorkers, sent_at};
use super::storage::{CallStorage, StoredCall};
use crate::protocol::{Code, Problem};

/// Attempts against concurrent changes of the call. It can change twice: accepted, ended.
const MAX_ATTEMPTS: usize = 4;

/// In which state a call may be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndScope {
    /// In any state.
    Any,
    /// Only while it rings.
    Ringing,
}

/// The stored end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// When it ended.
    pub ended_at: Timestamp,
    /// When it was connected.
    pub connected_at: Option<Timestamp>,
}

/// Why a call was not ended.
#[derive(Debug, Error)]
pub enum EndError {
    /// It was never requested.
    #[error("there is no call {0}")]
    Unknown(CallId),
    /// It was accepted meanwhile, and only a ringing call was to be ended.
    #[error("the call was accepted")]
    Accepted,
    /// Its worker is alive and still has the call, or may have it.
    #[error("the call's worker is alive")]
    WorkerAlive,
    /// Storage or worker does not answer: retry.
    #[error("{0}")]
    Unavailable(Problem),
}

impl From<Problem> for EndError {
    fn from(problem: Problem) -> Self {
        Self::Unavailable(problem)
    }
}

impl From<EndError> for Problem {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Unknown(_) => Self::new(Code::UnknownCall, error.to_string()),
            EndError::Accepted | EndError::WorkerAlive => Self::new(Code::WrongState, error.to_string()),
            EndError::Unavailable(problem) => problem,
        }
    }
}

/// Ends calls.
#[derive(Debug, Clone)]
pub struct CallEnder {
    /// Stores the ends.
    pub storage: CallStorage,
    /// End the calls that they host.
    pub workers: MediaWorkerClient,
    /// Which of them run, and since when.
    pub known_workers: KnownWorkers,
    /// Sends `call_ended` for calls that never began.
    pub notices: NoticePublisher,
}

impl CallEnder {
    /// Ends a call, and takes it out of `active_calls`.
    ///
    /// # Errors
    /// [`EndError`]
    pub async fn end(&self, call: &CallId, reason: EndReason, by: &str, scope: EndScope) -> Result<End, EndError> {
        let span = end_span(call, reason);
        for _ in 0..MAX_ATTEMPTS {
            let state = self
                .storage
                .state(call)
                .await?
                .ok_or_else(|| EndError::Unknown(call.clone()))?;
            if let Some(ended) = &state.ended {
                return Ok(self.ended(ended).await);
            }
            if state.accepted.is_some() && scope == EndScope::Ringing {
                return Err(EndError::Accepted);
            }
            spans::child_of(&span, state.trace);
            let ending = async {
                match state.accepted.clone() {
                    None => self.end_ringing_call(&state, reason, by).await,
                    Some(accepted) => self.end_accepted_call(&state, &accepted, reason, by).await,
                }
            };
            if let Some(end) = ending.instrument(span.clone()).await? {
                return Ok(end);
            }
        }
        Err(Problem::new(Code::Unavailable, "the call keeps changing; try again").into())
    }

    /// `None` if it changed meanwhile.
    async fn end_ringing_call(&self, state: &StoredCall, reason: EndReason, by: &str) -> Result<Option<End>, EndError> {
        let ended = Ended {
            parties: state.requested.parties.clone(),
            ended_at: Timestamp::now(),
            reason,
            by: by.to_owned(),
            connected_at: None,
            duration_ms: None,
            clock_step_ms: None,
            party: None,
            terms: state.requested.terms.clone(),
        };
        // Not merely "no `ended` yet": an acceptance of this moment would leave a worker with a call that is over.
        let condition = PublishCondition::CallUnchangedSince(state.sequence);
        match self
            .storage
            .publish(&ended.clone().into(), condition, state.trace)
            .await?
        {
            Outcome::Stored(_) | Outcome::AlreadyStored(_) => Ok(Some(self.ended_here(&ended).await)),
            Outcome::Superseded(_) | Outcome::ConditionFailed => Ok(None),
        }
    }

    /// `None` if the worker has released the call without a fact: what is stored must be read again.
    async fn end_accepted_call(
        &self,
        state: &StoredCall,
        accepted: &Accepted,
        reason: EndReason,
        by: &str,
    ) -> Result<Option<End>, EndError> {
        let worker = &accepted.worker_id;
        let parties = &state.requested.parties;
        let end = Some(command::End {
            reason,
            by: by.to_owned(),
        });
        let close = CloseCall {
            call_id: parties.call_id.clone(),
            end,
        };
        match self.workers.ask(worker, &close, state.trace).await {
            Ok(CallClosed {
                ended_at: Some(ended_at),
                connected_at,
            }) => {
                self.storage.release(parties).await;
                Ok(Some(End { ended_at, connected_at }))
            }
            Ok(CallClosed { ended_at: None, .. }) => Ok(None),
            Err(error) if self.is_final(&error) => Err(self.workers.problem(worker, error).into()),
            Err(error) => {
                tracing::warn!(call_id = %parties.call_id, worker_id = %worker, %error, "ending a call without its worker");
                let workers = &self.known_workers;
                let now = workers.server_now();
                let at = match error {
                    // Another process answers under the worker's name.
                    CommandError::Refused(_) if !workers.runs(accepted) => {
                        return self.end_as_lost(state, accepted).await.map(Some);
                    }
                    // The process has ended the call itself, or was replaced by one whose heartbeat has not arrived here.
                    CommandError::Refused(_) => self.last_alive(state, accepted).await?.min(now),
                    _ if workers.replaced_at(accepted).is_some() => {
                        return self.end_as_lost(state, accepted).await.map(Some);
                    }
                    _ if self.storage.connection(&parties.call_id).await?.is_none() => now,
                    // The worker may have died before the request: the time after its last heartbeat is not billed.
                    _ if workers.could_be_heard(accepted) => self.last_alive(state, accepted).await?.min(now),
                    error => return Err(self.workers.problem(worker, error).into()),
                };
                self.end_without_worker(state, at, reason, by).await.map(Some)
            }
        }
    }

    /// Ends a call whose worker is lost, as `worker_lost`.
    ///
    /// # Errors
    /// [`EndError::WorkerAlive`] if the worker answers: then only its entry had expired.
    pub async fn end_lost(&self, call: &CallId) -> Result<End, EndError> {
        let state = self
            .storage
            .state(call)
            .await?
            .ok_or_else(|| EndError::Unknown(call.clone()))?;
        if let Some(ended) = &state.ended {
            return Ok(self.ended(ended).await);
        }
        let Some(accepted) = state.accepted.clone() else {
            return Err(EndError::WorkerAlive);
        };
        let parties = &state.requested.parties;
        if self.workers.has_call(parties, &accepted.worker_id, state.trace).await? {
            return Err(EndError::WorkerAlive);
        }
        let span = end_span(call, EndReason::WorkerLost);
        spans::child_of(&span, state.trace);
        self.end_as_lost(&state, &accepted).instrument(span).await
    }

    async fn end_as_lost(&self, state: &StoredCall, accepted: &Accepted) -> Result<End, EndError> {
        let at = self.last_alive(state, accepted).await?;
        let (reason, by) = (EndReason::WorkerLost, accepted.worker_id.as_str());
        self.end_without_worker(state, at, reason, by).await
    }

    /// When the process that accepted a call sent its last heartbeat, by the server's clock. Without one, as of an earlier
    /// version: the last fact of the call before the entry of the process expired or another process was started.
    async fn last_alive(&self, state: &StoredCall, accepted: &Accepted) -> Result<Timestamp, EndError> {
        let accepted_at = state.accepted_on_server.unwrap_or(accepted.accepted_at);
        let call = &accepted.parties.call_id;
        let connection = self.storage.connection(call).await?;
        let stored = self.storage.last_heartbeat(accepted).await?;
        let heartbeats = [stored, self.known_workers.status_of(accepted)].into_iter().flatten();
        if let Some(last) = heartbeats.max_by_key(|heartbeat| heartbeat.at) {
            return Ok(sent_at(&last, connection.as_ref()).max(accepted_at));
        }
        let last = self.storage.within(self.storage.facts.last_of_call(call)).await?;
        let last = last.map_or(accepted_at, |stored| stored.stored_at);
        // Ticks continue until `ended` is stored, and do not prove that the worker was alive.
        let expired_at = self.known_workers.server_now().minus(WORKER_TTL);
        let dead_at = self.known_workers.replaced_at(accepted).unwrap_or(expired_at);
        Ok(last.min(dead_at).max(accepted_at))
    }

    /// Whether the call cannot be ended without its worker: the worker has it, or NATS is unreachable.
    fn is_final(&self, error: &CommandError) -> bool {
        match error {
            CommandError::Refused(refusal) => refusal.code != RefusalCode::UnknownCall,
            CommandError::Unreachable { .. } => !self.workers.connected(),
            CommandError::Undecodable { .. } => true,
        }
    }

    /// Stores an end at a time by the server's clock. The clock of the worker, which `connectedAt` is of, may be another one: only the
    /// duration counts.
    async fn end_without_worker(
        &self,
        state: &StoredCall,
        at: Timestamp,
        reason: EndReason,
        by: &str,
    ) -> Result<End, EndError> {
        let parties = &state.requested.parties;
        for _ in 0..MAX_ATTEMPTS {
            let connection = self.storage.connection(&parties.call_id).await?;
            let connected_at = connection.map(|connection| connection.connected_at);
            let ended = Ended {
                parties: parties.clone(),
                ended_at: connection.map_or(at, |connection| {
                    let duration = at.until(connection.on_server);
                    connection.connected_at.plus(duration)
                }),
                reason,
                by: by.to_owned(),
                connected_at,
                duration_ms: None,
                clock_step_ms: None,
                party: None,
                terms: state.requested.terms.clone(),
            };
            let condition = PublishCondition::OnceWhileOpen;
            match self
                .storage
                .publish(&ended.clone().into(), condition, state.trace)
                .await?
            {
                Outcome::Stored(_) | Outcome::AlreadyStored(_) => return Ok(self.ended_here(&ended).await),
                Outcome::Superseded(stored) => {
                    if let Fact::Ended(other) = &stored.fact {
                        return Ok(self.ended(other).await);
                    }
                }
                // It was connected meanwhile.
                Outcome::ConditionFailed => {}
            }
        }
        Err(Problem::new(Code::Unavailable, "the call changed; try again").into())
    }

    /// This node has stored `ended`: notifies the parties, unless the settlement will.
    async fn ended_here(&self, ended: &Ended) -> End {
        tracing::info!(call_id = %ended.parties.call_id, reason = ?ended.reason, by = ended.by, "call ended");
        if let Some(notice) = ended.notice() {
            self.notices.publish_to_both(&ended.parties, &notice).await;
        }
        self.ended(ended).await
    }

    async fn ended(&self, ended: &Ended) -> End {
        self.storage.release(&ended.parties).await;
        End {
            ended_at: ended.ended_at,
            connected_at: ended.connected_at,
        }
    }
}

fn end_span(call: &CallId, reason: EndReason) -> Span {
    call_span!("end_call", "internal", callpulse.call_id = %call, callpulse.reason = ?reason)
}
