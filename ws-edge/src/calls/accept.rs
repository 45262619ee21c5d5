//! WS-C02 `call_accept`: a media-worker opens the call, and the acceptance is stored.

use contract::buckets::active_calls::{Acceptance, BucketError};
use contract::jetstream::request::{self, CommandError};
use contract::wire::command::{CallOpened, CloseCall, OpenCall};
use contract::wire::fact::Accepted;
use contract::wire::request::CallTaken;
use contract::{CallId, Fact, Outcome, Parties, Party, PublishCondition, Role, Timestamp, TraceParent, WorkerId};
use serde_json::Value;

use super::{Calls, require};
use crate::protocol::{Code, Problem, payload};

/// Workers that are asked before the otomo gets `no_worker`.
const MAX_WORKERS_ASKED: usize = 3;
/// Attempts at writing an acceptance into `active_calls`, against others who write there too.
const MAX_UPDATES: usize = 5;

impl Calls {
    pub(super) async fn accept(&self, party: &Party, call: &CallId) -> Result<Value, Problem> {
        require(party, Role::Otomo, "call_accept")?;
        let state = self.state_for(party, call).await?;
        if state.accepted.is_some() {
            return Err(Problem::new(Code::WrongState, "the call was accepted already"));
        }
        let (parties, trace) = (state.requested.parties, state.trace);
        let (worker_id, opened) = self.place(&parties, trace).await?;
        let accepted_at = Timestamp::now();
        let accepted = Accepted {
            parties: parties.clone(),
            accepted_at,
            worker_id: worker_id.clone(),
        };
        // Nothing may have happened since the request: a cancellation and an acceptance at once are decided here.
        let guard = PublishCondition::CallUnchangedSince(state.sequence);
        match self.publish(&accepted.clone().into(), guard, trace).await {
            Ok(Outcome::Stored(_) | Outcome::AlreadyStored(_)) => {}
            Ok(Outcome::Superseded(stored)) => {
                if !matches!(&stored.fact, Fact::Accepted(other) if other.worker_id == worker_id) {
                    self.close_unaccepted(&worker_id, call, trace).await;
                }
                return Err(Problem::new(
                    Code::WrongState,
                    "the call was accepted already, on another socket",
                ));
            }
            Ok(Outcome::Refused) => {
                self.close_unaccepted(&worker_id, call, trace).await;
                return Err(Problem::new(Code::WrongState, "the call is over"));
            }
            // The fact was not stored and never will be.
            Err(problem) => {
                self.close_unaccepted(&worker_id, call, trace).await;
                return Err(problem);
            }
        }
        let acceptance = Acceptance {
            accepted_at,
            worker_id,
            media_deadline: opened.media_deadline,
        };
        self.write_acceptance(call, acceptance).await;
        if let Some(notice) = accepted.notice() {
            self.nats.notice_publisher.publish_to_both(&parties, &notice).await;
        }
        tracing::info!(call_id = %call, worker_id = %accepted.worker_id, "accepted");
        Ok(payload(CallTaken {
            call_id: call,
            accepted_at,
        }))
    }

    async fn place(&self, parties: &Parties, trace: TraceParent) -> Result<(WorkerId, CallOpened), Problem> {
        let (client, timeout) = (&self.nats.client, self.settings.command_timeout);
        let mut asked = Vec::new();
        let mut failure = Problem::new(Code::NoWorker, "no media-worker has room; try again");
        while asked.len() < MAX_WORKERS_ASKED
            && let Some(worker) = self.workers.choose(&asked)
        {
            let command = OpenCall {
                parties: parties.clone(),
            };
            match request::ask(client, &worker, &command, trace.child(), timeout).await {
                Ok(opened) => return Ok((worker, opened)),
                Err(error) => {
                    tracing::warn!(call_id = %parties.call_id, worker_id = %worker, %error, "worker did not open the call: trying another");
                    if !matches!(error, CommandError::Refused(_)) {
                        // It may have opened the call, and only its reply was lost.
                        self.close_unaccepted(&worker, &parties.call_id, trace).await;
                        failure = Problem::new(Code::WorkerUnreachable, "no media-worker answers; try again");
                    }
                    asked.push(worker);
                }
            }
        }
        if !self.connected() {
            failure = Problem::new(Code::Unavailable, "NATS is away; try again");
        }
        Err(failure)
    }

    /// Closes a call on a worker that opened it, because the acceptance was not stored.
    async fn close_unaccepted(&self, worker: &WorkerId, call: &CallId, trace: TraceParent) {
        let command = CloseCall {
            call_id: call.clone(),
            end: None,
        };
        let timeout = self.settings.command_timeout;
        if let Err(error) = request::ask(&self.nats.client, worker, &command, trace.child(), timeout).await {
            tracing::info!(call_id = %call, worker_id = %worker, %error, "worker did not close an unaccepted call: its media timeout closes it");
        }
    }

    /// Writes the call's worker into `active_calls`. A failure does not fail the call: the stream has the worker too.
    pub(crate) async fn write_acceptance(&self, call: &CallId, acceptance: Acceptance) {
        for _ in 0..MAX_UPDATES {
            let mut entry = match self.within(self.active.get(call)).await {
                Ok(Some(entry)) => entry,
                Ok(None) => return,
                Err(_) => break,
            };
            if entry.value.accepted.is_some() {
                return;
            }
            entry.value.accepted = Some(acceptance.clone());
            match self.active.update(&entry.value, entry.revision).await {
                Ok(_) => return,
                Err(BucketError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::warn!(call_id = %call, %error, "acceptance not written to active_calls: a later check writes it");
                    return;
                }
            }
        }
        tracing::warn!(call_id = %call, "acceptance not written to active_calls: a later check writes it");
    }
}
