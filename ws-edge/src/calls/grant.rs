//! `cmd.call.<callId>.grant`: the wallet extends a call. This node knows how long a call may last, and finds the call's worker, which
//! decides.

use async_nats::Message;
use contract::jetstream::request::{CommandError, Refusal, RefusalCode};
use contract::wire::command::{CreditExtended, ExtendCall, GrantCredit};
use contract::wire::{payload, subject};
use contract::{CallId, CallSettings};

use super::command_server::TeamCommand;
use super::media_worker_client::MediaWorkerClient;
use super::storage::CallStorage;
use crate::metrics;
use crate::protocol::{Code, Problem};

/// Relays grants.
#[derive(Debug, Clone)]
pub struct GrantRelay {
    /// The call's worker is in its facts.
    pub storage: CallStorage,
    /// Extend the calls that they host.
    pub workers: MediaWorkerClient,
    /// The longest grant.
    pub calls: CallSettings,
}

impl TeamCommand for GrantRelay {
    const NAME: &'static str = "grant";
    const SUBJECTS: &'static str = subject::ALL_GRANT;
    type Reply = CreditExtended;

    async fn handle(&self, message: &Message) -> Result<CreditExtended, Refusal> {
        let (call, command) = read(message)?;
        self.relay(&call, command).await
    }
}

impl GrantRelay {
    async fn relay(&self, call: &CallId, ExtendCall { grant, .. }: ExtendCall) -> Result<CreditExtended, Refusal> {
        let state = self.storage.state(call).await.map_err(refusal)?;
        let unknown = || Refusal::new(RefusalCode::UnknownCall, format!("there is no call {call}"));
        let state = state.ok_or_else(unknown)?;
        let wrong_state = |what: &str| Refusal::new(RefusalCode::WrongState, what);
        if let Some(ended) = &state.ended {
            let reason = ended.reason.as_str();
            return Err(wrong_state(&format!("the call is over ({reason})")));
        }
        if state.requested.grant.is_none() {
            return Err(wrong_state("the call has no credit control"));
        }
        let Some(accepted) = state.accepted else {
            return Err(wrong_state("the call rings: no worker hosts it yet"));
        };
        // The terms of a call without any are unknown here.
        let interval_ms = state.requested.terms.map_or(1, |terms| terms.interval_ms);
        let checked = self.calls.check(&grant, interval_ms);
        checked.map_err(|error| Refusal::new(RefusalCode::InvalidGrant, error.to_string()))?;
        let command = GrantCredit {
            call_id: call.clone(),
            grant,
        };
        let extended = self.workers.ask(&accepted.worker_id, &command, state.trace).await;
        let extended = extended.map_err(|error| match error {
            // Its end is being stored.
            CommandError::Refused(refusal) if refusal.code == RefusalCode::UnknownCall => {
                wrong_state("the call is over")
            }
            CommandError::Refused(refusal) => refusal,
            error => refusal(self.workers.problem(&accepted.worker_id, error)),
        })?;
        tracing::info!(call_id = %call, until_ms = extended.until_ms, superseded = extended.superseded, "credit granted");
        Ok(extended)
    }
}

fn refusal(problem: Problem) -> Refusal {
    match problem.code {
        Code::Worker(code) => Refusal::new(code, problem.message),
        _ => Refusal::new(RefusalCode::Internal, problem.message),
    }
}

fn read(message: &Message) -> Result<(CallId, ExtendCall), Refusal> {
    let bad = |reason: String| {
        metrics::undecodable("grant");
        Refusal::new(RefusalCode::BadRequest, reason)
    };
    let call = subject::parse_grant(&message.subject).ok_or_else(|| bad("the subject names no call".to_owned()))?;
    let command: ExtendCall = payload::decode(&message.payload).map_err(|error| bad(error.to_string()))?;
    if command.call_id.as_ref().is_some_and(|named| *named != call) {
        return Err(bad("callId: names another call than the subject".to_owned()));
    }
    Ok((call, command))
}
