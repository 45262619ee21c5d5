//! Commands to media-workers.

use std::time::Duration;

use contract::jetstream::request::{self, CommandError, RefusalCode};
use contract::wire::command::{CloseCall, Command, OpenCall, Relayed, Requester};
use contract::wire::fact::Requested;
use contract::wire::request::RtcCapabilities;
use contract::{CallId, Nats, Parties, Role, TraceParent, WorkerId};

use crate::protocol::{Code, Problem};

/// Sends commands to media-workers.
#[derive(Debug, Clone)]
pub struct MediaWorkerClient {
    nats: Nats,
    timeout: Duration,
}

impl MediaWorkerClient {
    /// A worker that does not reply within `timeout` counts as unreachable.
    pub fn new(nats: Nats, timeout: Duration) -> Self {
        Self { nats, timeout }
    }

    /// Sends a command, and waits for the reply.
    pub(super) async fn ask<C: Command<Recipient = WorkerId>>(
        &self,
        worker: &WorkerId,
        command: &C,
        trace: TraceParent,
    ) -> Result<C::Reply, CommandError> {
        request::ask(&self.nats.client, worker, command, trace, self.timeout).await
    }

    /// Opens a call.
    pub(super) async fn open(
        &self,
        worker: &WorkerId,
        requested: &Requested,
        trace: TraceParent,
    ) -> Result<contract::wire::command::CallOpened, CommandError> {
        let open = OpenCall {
            grant: requested.grant.clone(),
            terms: requested.terms.clone(),
            ..OpenCall::new(requested.parties.clone())
        };
        self.ask(worker, &open, trace).await
    }

    /// Closes a call that the worker has opened, or may have, because its acceptance was not stored.
    pub(super) async fn close_unaccepted(&self, worker: &WorkerId, call: &CallId, trace: TraceParent) {
        let command = CloseCall {
            call_id: call.clone(),
            end: None,
        };
        if let Err(error) = self.ask(worker, &command, trace).await {
            tracing::info!(call_id = %call, worker_id = %worker, %error, "worker did not close an unaccepted call: its media timeout closes it");
        }
    }

    /// Whether the worker replies and has the call.
    pub(super) async fn has_call(
        &self,
        parties: &Parties,
        worker: &WorkerId,
        trace: TraceParent,
    ) -> Result<bool, Problem> {
        let requester = Requester {
            call_id: parties.call_id.clone(),
            role: Role::User,
            party_id: parties.user_id.as_str().to_owned(),
        };
        let request = RtcCapabilities {};
        match self.ask(worker, &Relayed { requester, request }, trace).await {
            Err(CommandError::Refused(refusal)) if refusal.code == RefusalCode::UnknownCall => Ok(false),
            Ok(_) | Err(CommandError::Refused(_) | CommandError::Undecodable { .. }) => Ok(true),
            Err(CommandError::Unreachable { .. }) if self.connected() => Ok(false),
            Err(CommandError::Unreachable { .. }) => Err(nats_unreachable()),
        }
    }

    /// The error for a client whose call's worker does not carry a command out.
    pub(super) fn problem(&self, worker: &WorkerId, error: CommandError) -> Problem {
        match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::Unreachable { .. } if !self.connected() => nats_unreachable(),
            CommandError::Unreachable { .. } => {
                tracing::warn!(worker_id = %worker, %error, "a call's media-worker does not reply");
                Problem::new(Code::WorkerUnreachable, "the call's media-worker does not answer")
            }
            CommandError::Undecodable { .. } => {
                tracing::error!(worker_id = %worker, %error, "reply of a media-worker not decoded: check the worker's version");
                Problem::new(
                    Code::Worker(RefusalCode::Internal),
                    "the media-worker's answer cannot be read",
                )
            }
        }
    }

    /// Whether this node is connected to NATS.
    pub(super) fn connected(&self) -> bool {
        self.nats.state().borrow().connected
    }
}

pub(super) fn nats_unreachable() -> Problem {
    Problem::new(Code::Unavailable, "NATS is unreachable; try again")
}
