//! Calls from their request to their end: one file a request, and what they share.
//!
//! The stream decides which of two competing changes came first and whether a call is over, by the conditions of its
//! facts. `active_calls` is only an index of the calls in progress.

mod accept;
pub mod deadlines;
mod end;
mod hangup;
mod media;
pub mod placement;
mod reject;
mod request;
pub mod snapshot;
pub mod terminate;

use std::future::Future;
use std::time::Duration;

use contract::buckets::active_calls::{ActiveCall, ActiveCalls, Revised};
use contract::wire::fact::{Accepted, Ended, Requested};
use contract::wire::request::{Request, SignallingRequest};
use contract::{
    CallId, Fact, FactKind, FactStore, Nats, NodeId, Outcome, Parties, Party, PublishCondition, Role, TraceParent,
    WorkerId,
};
use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::calls::placement::Workers;
use crate::protocol::{Code, Problem};

pub use end::{End, EndError, Only};

/// How calls are handled.
#[derive(Debug, Clone)]
pub struct CallSettings {
    /// This node.
    pub node_id: NodeId,
    /// How long a call rings.
    pub ring_timeout: Duration,
    /// How long a worker may take to answer.
    pub command_timeout: Duration,
    /// How long JetStream may take.
    pub storage_timeout: Duration,
}

/// Everything that calls need. Clones share it.
#[derive(Debug, Clone)]
pub struct Calls {
    pub(crate) nats: Nats,
    pub(crate) facts: FactStore,
    pub(crate) active: ActiveCalls,
    pub(crate) workers: Workers,
    pub(crate) settings: CallSettings,
    /// Requests that are seen through to their end, whether somebody still waits for their answers or not.
    pub(crate) tracker: TaskTracker,
}

/// The state of a call, from its stored facts.
#[derive(Debug, Clone)]
pub(crate) struct CallState {
    pub(crate) requested: Requested,
    /// The stream sequence of `requested`.
    pub(crate) sequence: u64,
    pub(crate) trace: TraceParent,
    pub(crate) accepted: Option<Accepted>,
    pub(crate) ended: Option<Ended>,
}

impl Calls {
    /// Does what a party asks. What is begun is done, and told to both parties, even if it takes longer than the answer may:
    /// a fact that is stored late is stored all the same.
    ///
    /// # Errors
    /// [`Problem`]: what the party is told instead.
    pub async fn handle(&self, party: &Party, request: Request) -> Result<Value, Problem> {
        let name = request.name();
        let outcome = if self.connected() {
            let (calls, asker) = (self.clone(), party.clone());
            let work = self
                .tracker
                .spawn(async move { calls.carry_out(&asker, request).await });
            let limit = self.settings.storage_timeout + self.settings.command_timeout;
            match tokio::time::timeout(limit, work).await {
                Ok(Ok(outcome)) => outcome,
                // A panic is a bug, and was logged.
                Ok(Err(_)) | Err(_) => Err(unavailable()),
            }
        } else {
            Err(unavailable())
        };
        let label = outcome.as_ref().map_or_else(|problem| problem.code.as_str(), |_| "ok");
        metrics::counter!("callpulse_ws_requests_total", "type" => name, "outcome" => label).increment(1);
        if let Err(problem) = &outcome {
            tracing::info!(%party, request = name, code = problem.code.as_str(), problem.message, "request refused");
        }
        outcome
    }

    async fn carry_out(&self, party: &Party, request: Request) -> Result<Value, Problem> {
        match request {
            Request::Signalling(request) => match request {
                SignallingRequest::CallRequest(request) => self.call(party, request.otomo_id).await,
                SignallingRequest::CallAccept(of) => self.accept(party, &of.call_id).await,
                SignallingRequest::CallReject(of) => self.reject(party, &of.call_id).await,
                SignallingRequest::CallCancel(of) => self.cancel(party, &of.call_id).await,
                SignallingRequest::CallHangup(of) => self.hangup(party, &of.call_id).await,
            },
            Request::Rtc(request) => self.relay(party, request).await,
        }
    }

    /// The state of a call; `None` if it was never requested.
    pub(crate) async fn state(&self, call: &CallId) -> Result<Option<CallState>, Problem> {
        let (requested, accepted, ended) = self
            .within(async {
                tokio::try_join!(
                    self.facts.last(call, FactKind::Requested),
                    self.facts.last(call, FactKind::Accepted),
                    self.facts.last(call, FactKind::Ended),
                )
            })
            .await?;
        let Some(stored) = requested else {
            return Ok(None);
        };
        let Fact::Requested(requested) = stored.fact else {
            return Ok(None);
        };
        let accepted = accepted.and_then(|stored| match stored.fact {
            Fact::Accepted(fact) => Some(fact),
            _ => None,
        });
        let ended = ended.and_then(|stored| match stored.fact {
            Fact::Ended(fact) => Some(fact),
            _ => None,
        });
        Ok(Some(CallState {
            requested,
            sequence: stored.sequence,
            trace: stored.trace,
            accepted,
            ended,
        }))
    }

    /// The state of a call that is not over and that `party` is in.
    async fn state_for(&self, party: &Party, call: &CallId) -> Result<CallState, Problem> {
        let state = self.state(call).await?.ok_or_else(|| unknown_call(call))?;
        check_party(&state.requested.parties, party)?;
        match &state.ended {
            Some(ended) => Err(over(ended)),
            None => Ok(state),
        }
    }

    /// The call and worker for a party's RTC request: the call that it names, or the one that it is in.
    pub(crate) async fn host(
        &self,
        party: &Party,
        call: Option<&CallId>,
    ) -> Result<(Parties, WorkerId, TraceParent), Problem> {
        let entry = match call {
            Some(call) => self.within(self.active.get(call)).await?,
            None => self.within(self.active.of_party(party)).await?,
        };
        if let Some(Revised {
            value:
                ActiveCall {
                    parties,
                    accepted: Some(acceptance),
                    traceparent,
                    ..
                },
            ..
        }) = entry
        {
            check_party(&parties, party)?;
            return Ok((parties, acceptance.worker_id, traceparent));
        }
        let call = call.cloned().or_else(|| entry.map(|entry| entry.value.parties.call_id));
        let call = call.ok_or_else(|| Problem::new(Code::UnknownCall, "you are in no call"))?;
        // The entry is updated after the fact is stored: a recent acceptance may be in the stream only.
        let state = self.state_for(party, &call).await?;
        match state.accepted {
            Some(accepted) => Ok((accepted.parties, accepted.worker_id, state.trace)),
            None => Err(Problem::new(
                Code::WrongState,
                "the call was not accepted yet: wait for call_accepted",
            )),
        }
    }

    /// Stores a fact, or learns what stands in its place, however long the storage is away: giving up would leave open which.
    async fn publish(&self, fact: &Fact, guard: PublishCondition, trace: TraceParent) -> Result<Outcome, Problem> {
        let stored = self.facts.publish_as_first(fact, guard, trace.child()).await;
        stored.map_err(|error| {
            tracing::error!(call_id = %fact.call_id(), %error, "fact rejected by NATS: check accounts.conf and the stream's configuration");
            unavailable()
        })
    }

    /// Whether this node is connected to NATS.
    pub(crate) fn connected(&self) -> bool {
        self.nats.state().borrow().connected
    }

    /// Waits for the storage for at most the storage timeout.
    pub(crate) async fn within<T, E: std::fmt::Display>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem> {
        match tokio::time::timeout(self.settings.storage_timeout, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::warn!(%error, "storage failed: check JetStream");
                Err(unavailable())
            }
            Err(_) => Err(unavailable()),
        }
    }
}

fn require(party: &Party, role: Role, request: &str) -> Result<(), Problem> {
    if party.role() == role {
        Ok(())
    } else {
        Err(Problem::new(
            Code::RoleForbidden,
            format!("{request} is for the {role}"),
        ))
    }
}

fn check_party(parties: &Parties, party: &Party) -> Result<Role, Problem> {
    parties
        .role_of(party)
        .ok_or_else(|| Problem::new(Code::NotAParty, "it is somebody else's call"))
}

fn unknown_call(call: &CallId) -> Problem {
    Problem::new(Code::UnknownCall, format!("there is no call {call}"))
}

fn over(ended: &Ended) -> Problem {
    let reason = serde_json::to_value(ended.reason).unwrap_or_default();
    let reason = reason.as_str().unwrap_or_default().to_owned();
    Problem::new(Code::WrongState, format!("the call is over ({reason})"))
}

fn unavailable() -> Problem {
    Problem::new(Code::Unavailable, "the storage does not answer; try again")
}
