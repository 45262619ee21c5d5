//! Calls as they are stored: their facts in the stream, and their entries in `active_calls`.

use std::future::Future;
use std::time::Duration;

use contract::buckets::active_calls::{Acceptance, ActiveCall, ActiveCalls, BucketError, Revised};
use contract::buckets::last_heartbeats::LastHeartbeats;
use contract::buckets::media_workers::WorkerStatus;
use contract::wire::fact::{Accepted, Ended, Requested, Settled};
use contract::{CallId, Fact, FactKind, FactStore, Outcome, Parties, Party, PublishCondition, Timestamp, TraceParent};

use super::{check_party, over, unavailable, unknown_call};
use crate::protocol::Problem;

/// Attempts at writing an acceptance into `active_calls`, against concurrent changes.
const MAX_UPDATES: usize = 5;

/// The state of a call, from its stored facts.
#[derive(Debug, Clone)]
pub struct StoredCall {
    /// The first fact.
    pub requested: Requested,
    /// The stream sequence of `requested`.
    pub sequence: u64,
    /// The trace of `requested`.
    pub trace: TraceParent,
    /// Set once it was accepted.
    pub accepted: Option<Accepted>,
    /// When it was accepted by the server's clock, if that is known.
    pub accepted_on_server: Option<Timestamp>,
    /// Set once it has ended.
    pub ended: Option<Ended>,
}

/// When a call was connected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    /// By the clock of its worker.
    pub(super) connected_at: Timestamp,
    /// By the server's clock. As `connected_at` if the fact has no age.
    pub(super) on_server: Timestamp,
}

/// Reads and writes calls.
#[derive(Debug, Clone)]
pub struct CallStorage {
    pub(super) facts: FactStore,
    pub(super) active: ActiveCalls,
    last_heartbeats: LastHeartbeats,
    timeout: Duration,
}

impl CallStorage {
    /// `timeout` limits each read, and each change of `active_calls`.
    pub fn new(facts: FactStore, active: ActiveCalls, last_heartbeats: LastHeartbeats, timeout: Duration) -> Self {
        Self {
            facts,
            active,
            last_heartbeats,
            timeout,
        }
    }

    /// The state of a call; `None` if it was never requested.
    pub(super) async fn state(&self, call: &CallId) -> Result<Option<StoredCall>, Problem> {
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
        let accepted_on_server = accepted.as_ref().and_then(|stored| stored.happened_at);
        let accepted = accepted.and_then(|stored| match stored.fact {
            Fact::Accepted(fact) => Some(fact),
            _ => None,
        });
        let ended = ended.and_then(|stored| match stored.fact {
            Fact::Ended(fact) => Some(fact),
            _ => None,
        });
        Ok(Some(StoredCall {
            requested,
            sequence: stored.sequence,
            trace: stored.trace,
            accepted,
            accepted_on_server,
            ended,
        }))
    }

    /// The state of a call of `party` that is not over.
    pub(super) async fn state_for(&self, party: &Party, call: &CallId) -> Result<StoredCall, Problem> {
        let state = self.state(call).await?.ok_or_else(|| unknown_call(call))?;
        check_party(&state.requested.parties, party)?;
        match &state.ended {
            Some(ended) => Err(over(ended)),
            None => Ok(state),
        }
    }

    /// When the call was connected, from the stream.
    pub(super) async fn connection(&self, call: &CallId) -> Result<Option<Connection>, Problem> {
        let stored = self.within(self.facts.last(call, FactKind::RtpDetected)).await?;
        Ok(stored.and_then(|stored| match stored.fact {
            Fact::RtpDetected(detected) => Some(Connection {
                connected_at: detected.connected_at,
                on_server: stored.happened_at.unwrap_or(detected.connected_at),
            }),
            _ => None,
        }))
    }

    /// The last heartbeat of the process that accepted a call. Facts of earlier versions do not name the process.
    pub(super) async fn last_heartbeat(&self, accepted: &Accepted) -> Result<Option<WorkerStatus>, Problem> {
        let Some(started_at) = accepted.worker_started_at else {
            return Ok(None);
        };
        self.within(self.last_heartbeats.of(&accepted.worker_id, started_at))
            .await
    }

    /// Whether an end of the call is stored, even one that cannot be decoded.
    pub(super) async fn is_over(&self, call: &CallId) -> Result<bool, Problem> {
        self.within(self.facts.has(call, FactKind::Ended)).await
    }

    /// The settlement of a call.
    pub(super) async fn settled(&self, call: &CallId) -> Result<Option<Settled>, Problem> {
        let stored = self.within(self.facts.last(call, FactKind::Settled)).await?;
        Ok(stored.and_then(|stored| match stored.fact {
            Fact::Settled(settled) => Some(settled),
            _ => None,
        }))
    }

    /// The entry of a call, or of the call that the party is in.
    pub(super) async fn entry(
        &self,
        party: &Party,
        call: Option<&CallId>,
    ) -> Result<Option<Revised<ActiveCall>>, Problem> {
        match call {
            Some(call) => self.within(self.active.get(call)).await,
            None => self.within(self.active.of_party(party)).await,
        }
    }

    /// Stores a fact, or returns the fact in its place. Waits while the storage is unreachable: after giving up, the outcome would
    /// be unknown.
    pub(super) async fn publish(
        &self,
        fact: &Fact,
        condition: PublishCondition,
        trace: TraceParent,
    ) -> Result<Outcome, Problem> {
        let stored = self.facts.publish_as_first(fact, condition, trace).await;
        stored.map_err(|error| {
            tracing::error!(call_id = %fact.call_id(), fact = %fact.kind(), %error, "fact rejected by NATS: check accounts.conf and the stream");
            unavailable()
        })
    }

    /// Writes the call's worker into `active_calls`. A failure does not fail the call: the stream has the worker too.
    pub(super) async fn write_acceptance(&self, call: &CallId, acceptance: Acceptance) {
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

    /// Removes a call from `active_calls`. After a failure the next node that sees the entry removes it.
    pub(super) async fn release(&self, parties: &Parties) {
        if let Err(problem) = self.within(self.active.release(parties)).await {
            tracing::warn!(call_id = %parties.call_id, %problem, "locks of the parties not released: a later check releases them");
        }
    }

    /// Waits for the storage for at most the storage timeout.
    pub(super) async fn within<T, E: std::fmt::Display>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::warn!(%error, "storage failed: check JetStream");
                Err(unavailable())
            }
            Err(_) => Err(unavailable()),
        }
    }
}
