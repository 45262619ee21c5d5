//! `cmd.call.<callId>.terminate`: another team ends a call. All edges answer as one queue group.

use std::sync::Arc;

use async_nats::{HeaderMap, Message};
use contract::jetstream::request::{self, Refusal, RefusalCode};
use contract::wire::command::{CallClosed, Terminate};
use contract::wire::service::Service;
use contract::wire::subject;
use contract::{CallId, EndReason, Nats, Role};
use futures::StreamExt;
use serde::Deserialize;
use service::BoxError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::end::{CallEnder, EndError, EndScope};
use crate::metrics;
use crate::protocol::{Code, Problem};

/// The queue group of which one node answers; also names it in parked commands.
pub const QUEUE_GROUP: &str = "ws-edge";
/// Commands that are worked on at once.
const MAX_CONCURRENT: usize = 64;
/// Commands that are worked on or wait; further ones are refused. They do not wait in the subscription: when it overflows, the
/// client does not tell which subscription lost a message, and every party needs a new snapshot.
const MAX_WAITING: u32 = 4_096;
/// The server's description of a requester in another account.
const REQUEST_INFO: &str = "Nats-Request-Info";
/// The originator of a command of this account that names a party instead.
const UNNAMED: &str = "command";
/// The longest `by`, in characters.
const MAX_BY_CHARS: usize = 128;

/// Answers until `stop` is cancelled.
///
/// # Errors
/// If the subscription cannot be made, or ends.
pub async fn serve(nats: Nats, ender: CallEnder, stop: CancellationToken) -> Result<(), BoxError> {
    let mut commands = nats
        .client
        .queue_subscribe(subject::ALL_TERMINATE, QUEUE_GROUP.to_owned())
        .await?;
    let places = Arc::new(Semaphore::new(MAX_WAITING as usize));
    let working = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut draining = false;
    loop {
        let command = tokio::select! {
            () = stop.cancelled(), if !draining => {
                // The server now gives commands to other nodes; those that this node already has are answered.
                draining = true;
                commands.drain().await?;
                continue;
            }
            command = commands.next() => command,
        };
        match command {
            Some(command) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let (nats, ender, working) = (nats.clone(), ender.clone(), Arc::clone(&working));
                    tokio::spawn(async move {
                        if let Ok(_permit) = working.acquire().await {
                            answer(&nats, &ender, &command).await;
                        }
                        drop(place);
                    });
                }
                Err(_) => refuse(&nats, &command).await,
            },
            None if draining => break,
            None => return Err("the subscription to terminate commands has ended".into()),
        }
    }
    // All places are free once all answers are out.
    let _ = places.acquire_many(MAX_WAITING).await?;
    Ok(())
}

async fn refuse(nats: &Nats, command: &Message) {
    let refusal = Refusal::new(
        RefusalCode::AtCapacity,
        "too many terminate commands: send it again later",
    );
    metrics::request_answered("terminate", refusal.code.as_str());
    request::answer::<CallClosed>(&nats.client, command, &Err(refusal)).await;
}

async fn answer(nats: &Nats, ender: &CallEnder, message: &Message) {
    let outcome = match read(message) {
        Ok((call, command)) => terminate(ender, &call, &command).await,
        Err(refusal) => {
            metrics::undecodable("terminate");
            Err(refusal)
        }
    };
    let label = outcome.as_ref().map_or_else(|refusal| refusal.code.as_str(), |_| "ok");
    metrics::request_answered("terminate", label);
    request::answer(&nats.client, message, &outcome).await;
}

async fn terminate(ender: &CallEnder, call: &CallId, command: &Terminate) -> Result<CallClosed, Refusal> {
    let Terminate { reason, by } = command;
    tracing::info!(call_id = %call, by, reason = reason.as_str(), "asked to terminate a call");
    match ender.end(call, *reason, by, EndScope::Any).await {
        Ok(end) => Ok(CallClosed {
            ended_at: Some(end.ended_at),
            connected_at: end.connected_at,
        }),
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
    let command: Terminate = serde_json::from_slice(&message.payload).map_err(|error| bad(error.to_string()))?;
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

/// The account of a requester in another one. The server sets this header and removes a client's, because the import shares the
/// requester's identity (`share: true` in `accounts.conf`).
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

/// The command as it may be recorded. Only parties hang up and only workers lose media: whoever else ends a call has `terminated` it,
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
    fn nobody_ends_a_call_in_the_name_of_a_party_or_a_service() {
        let told = |reason, by: &str, account| {
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
            assert_eq!(told(reason, by, account), (expected.0, expected.1.to_owned()), "{by}");
        }
        assert_eq!(
            told(Terminated, &"x".repeat(MAX_BY_CHARS), Some("wallet")).1.len(),
            MAX_BY_CHARS
        );
    }
}
