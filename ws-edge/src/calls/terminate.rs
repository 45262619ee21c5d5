//! `cmd.call.<callId>.terminate`: another team ends a call. All edges answer as one queue group.

use async_nats::{HeaderMap, Message};
use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::{CallClosed, Terminate};
use contract::wire::service::Service;
use contract::wire::{payload, subject};
use contract::{CallId, EndReason, Role};
use serde::Deserialize;

use super::command_server::TeamCommand;
use super::end::{CallEnder, EndError, EndScope};
use crate::metrics;
use crate::protocol::{Code, Problem};

/// The server's description of a requester in another account.
const REQUEST_INFO: &str = "Nats-Request-Info";
/// The originator of a command of this account that names a party instead.
const UNNAMED: &str = "command";
/// The longest `by`, in characters.
const MAX_BY_CHARS: usize = 128;

/// Ends calls for other teams.
#[derive(Debug, Clone)]
pub struct Terminator {
    /// Ends the calls.
    pub ender: CallEnder,
}

impl TeamCommand for Terminator {
    const NAME: &'static str = "terminate";
    const SUBJECTS: &'static str = subject::ALL_TERMINATE;
    type Reply = CallClosed;

    async fn handle(&self, message: &Message) -> Result<CallClosed, Refusal> {
        let read = read(message);
        let (call, command) = read.inspect_err(|_| metrics::undecodable("terminate"))?;
        terminate(&self.ender, &call, &command).await
    }
}

async fn terminate(ender: &CallEnder, call: &CallId, command: &Terminate) -> Result<CallClosed, Refusal> {
    let Terminate { reason, by } = command;
    match ender.end(call, *reason, by, EndScope::Any).await {
        Ok(end) => {
            tracing::info!(call_id = %call, by, reason = reason.as_str(), "terminated on request");
            Ok(CallClosed {
                ended_at: Some(end.ended_at),
                connected_at: end.connected_at,
            })
        }
        Err(error @ EndError::Unknown(_)) => Err(Refusal::new(RefusalCode::UnknownCall, error.to_string())),
        Err(EndError::Unavailable(Problem {
            code: Code::Worker(code),
            message,
            ..
        })) => Err(Refusal::new(code, message)),
        Err(error) => Err(Refusal::new(RefusalCode::Internal, error.to_string())),
    }
}

fn read(message: &Message) -> Result<(CallId, Terminate), Refusal> {
    let bad = |reason: String| Refusal::new(RefusalCode::BadRequest, reason);
    let call = subject::parse_terminate(&message.subject).ok_or_else(|| bad("the subject names no call".to_owned()))?;
    let command: Terminate = payload::decode(&message.payload).map_err(|error| bad(error.to_string()))?;
    if !command.reason.is_known() {
        return Err(bad(format!("reason: {:?} is unknown", command.reason.as_str())));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-:.@".contains(c);
    if command.by.is_empty() || command.by.len() > MAX_BY_CHARS || !command.by.chars().all(allowed) {
        return Err(bad(format!("by: is 1 to {MAX_BY_CHARS} letters, digits and _-:.@")));
    }
    let account = message.headers.as_ref().and_then(account_of);
    Ok((call, recorded(command, account.as_deref())))
}

/// The account of a requester in another one. The server sets this header on requests from another account, and removes a client's.
fn account_of(headers: &HeaderMap) -> Option<String> {
    #[derive(Deserialize)]
    struct Requester {
        #[serde(rename = "acc")]
        account: String,
    }
    let requester: Requester = serde_json::from_str(headers.get(REQUEST_INFO)?.as_str()).ok()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let account: String = requester.account.chars().filter(|c| allowed(*c)).collect();
    (!account.is_empty()).then(|| account.to_ascii_lowercase())
}

/// The command as it may be recorded. Only parties hang up and only workers lose media: every other requester has `terminated` it,
/// except billing-timer at the maximum duration. `by` begins with the requester's account, and never is a party.
fn recorded(command: Terminate, account: Option<&str>) -> Terminate {
    let Terminate { reason, by } = command;
    let at_maximum = account.is_none() && reason == EndReason::MaxDuration && by == Service::BillingTimer.to_string();
    let is_party = [Role::User, Role::Otomo]
        .iter()
        .any(|role| by.eq_ignore_ascii_case(role.as_str()));
    let owner = match account {
        Some(account) if by != account && !by.starts_with(&format!("{account}:")) => Some(account),
        None if is_party => Some(UNNAMED),
        _ => None,
    };
    let mut by = owner.map_or(by.clone(), |owner| format!("{owner}:{by}"));
    by.truncate(MAX_BY_CHARS);
    Terminate {
        reason: if at_maximum { reason } else { EndReason::Terminated },
        by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_in_the_name_of_a_party_or_a_service_is_attributed_to_the_requester() {
        let recorded_as = |reason, by: &str, account| {
            let command = recorded(
                Terminate {
                    reason,
                    by: by.to_owned(),
                },
                account,
            );
            (command.reason, command.by)
        };
        use EndReason::{Hangup, MaxDuration, RtpTimeout, Terminated};
        for (reason, by, account, expected) in [
            (Hangup, "user", Some("wallet"), (Terminated, "wallet:user")),
            (
                MaxDuration,
                "billing-timer",
                Some("wallet"),
                (Terminated, "wallet:billing-timer"),
            ),
            (Terminated, "wallet", Some("wallet"), (Terminated, "wallet")),
            (
                Terminated,
                "wallet:no-balance",
                Some("wallet"),
                (Terminated, "wallet:no-balance"),
            ),
            (Terminated, "wallets", Some("wallet"), (Terminated, "wallet:wallets")),
            (MaxDuration, "billing-timer", None, (MaxDuration, "billing-timer")),
            (MaxDuration, "operator", None, (Terminated, "operator")),
            (RtpTimeout, "Otomo", None, (Terminated, "command:Otomo")),
        ] {
            assert_eq!(
                recorded_as(reason, by, account),
                (expected.0, expected.1.to_owned()),
                "{by}"
            );
        }
        assert_eq!(
            recorded_as(Terminated, &"x".repeat(MAX_BY_CHARS), Some("wallet"))
                .1
                .len(),
            MAX_BY_CHARS
        );
    }
}
