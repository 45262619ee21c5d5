//! The messages that each party received, parsed as the protocol specifies.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::records::run_log::ReceivedMessage;
use crate::records::timestamp::Timestamp;
use crate::report::{Check, Report};

/// `incoming_call`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Incoming {
    pub(super) call_id: String,
    pub(super) user_id: String,
}

/// `call_accepted`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepted {
    pub(super) call_id: String,
    pub(super) user_id: String,
    pub(super) otomo_id: String,
    pub(super) accepted_at: Timestamp,
}

/// `call_connected`, with exactly these fields.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Connected {
    pub(super) call_id: String,
    pub(super) user_id: String,
    pub(super) otomo_id: String,
    pub(super) connected_at: Timestamp,
    pub(super) method: String,
}

/// `tick`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tick {
    pub(super) call_id: String,
    pub(super) minute: u64,
    pub(super) at: Timestamp,
    pub(super) connected_at: Timestamp,
}

/// `media_lost`, `media_resumed`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Media {
    pub(super) call_id: String,
    pub(super) party: String,
}

/// `call_ended`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ended {
    pub(super) call_id: String,
    pub(super) ended_at: Timestamp,
    pub(super) reason: String,
    pub(super) duration_ms: i64,
    pub(super) billed_minutes: u64,
}

/// The state of the party's call, in `welcome` and `snapshot`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallSnapshot {
    pub(super) call_id: String,
    pub(super) user_id: String,
    pub(super) otomo_id: String,
    pub(super) state: String,
    pub(super) accepted_at: Option<Timestamp>,
    pub(super) connected_at: Option<Timestamp>,
    pub(super) last_tick: Option<LastTick>,
}

/// The last tick of a snapshot.
#[derive(Debug, Deserialize)]
pub(super) struct LastTick {
    pub(super) minute: u64,
    pub(super) at: Timestamp,
}

/// A response about a call.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response {
    pub(super) call_id: String,
    pub(super) accepted_at: Option<Timestamp>,
    pub(super) ended_at: Option<Timestamp>,
}

/// A message about a call, or a snapshot without one.
#[derive(Debug)]
pub(super) enum Message {
    Incoming(Incoming),
    Accepted(Accepted),
    Connected(Connected),
    Tick(Tick),
    MediaLost(Media),
    MediaResumed(Media),
    Ended(Ended),
    CallSnapshot(Option<CallSnapshot>),
    Response(Response),
}

/// A message with the time of its receipt.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) at: Timestamp,
    pub(super) message: Message,
}

/// The messages of one party, in order.
#[derive(Debug, Default)]
pub(super) struct PartyMessages {
    pub(super) role: &'static str,
    /// When it received its first message.
    pub(super) since: Option<Timestamp>,
    pub(super) messages: Vec<Received>,
}

/// The messages of all parties.
pub(super) type MessagesByParty<'a> = BTreeMap<&'a str, PartyMessages>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActiveCall {
    active_call: Value,
}

/// Parses the messages of all parties. A message that violates the protocol is a finding.
pub(super) fn read<'a>(all: &'a [ReceivedMessage], report: &mut Report) -> MessagesByParty<'a> {
    let mut parties = MessagesByParty::new();
    for received in all {
        let at = Timestamp::from(received.at);
        let party = parties.entry(received.party.as_str()).or_default();
        party.role = received.role.as_str();
        party.since = Some(party.since.map_or(at, |since| since.min(at)));
        match parse(&received.message) {
            Ok(Some(message)) => party.messages.push(Received { at, message }),
            Ok(None) => {}
            Err(error) => {
                let text = format!("{} received {}: {error}", received.party, received.message);
                report.find(Check::Unreadable, "", &[], text);
            }
        }
    }
    for party in parties.values_mut() {
        party.messages.sort_by_key(|received| received.at);
    }
    parties
}

fn parse(message: &Value) -> serde_json::Result<Option<Message>> {
    let payload = message.get("payload").unwrap_or(&Value::Null);
    Ok(Some(match message.get("type").and_then(Value::as_str) {
        Some("incoming_call") => Message::Incoming(decode(payload)?),
        Some("call_accepted") => Message::Accepted(decode(payload)?),
        Some("call_connected") => Message::Connected(decode(payload)?),
        Some("tick") => Message::Tick(decode(payload)?),
        Some("media_lost") => Message::MediaLost(decode(payload)?),
        Some("media_resumed") => Message::MediaResumed(decode(payload)?),
        Some("call_ended") => Message::Ended(decode(payload)?),
        Some("welcome" | "snapshot") => Message::CallSnapshot(decode(&decode::<ActiveCall>(payload)?.active_call)?),
        Some("response") if payload.get("callId").is_some() => Message::Response(decode(payload)?),
        _ => return Ok(None),
    }))
}

fn decode<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
    T::deserialize(value)
}

impl PartyMessages {
    /// The messages from a time on.
    pub(super) fn since(&self, timestamp: Timestamp) -> &[Received] {
        let first = self.messages.partition_point(|received| received.at < timestamp);
        self.messages.get(first..).unwrap_or_default()
    }
}

impl Message {
    /// The call that it is about.
    pub(super) fn call_id(&self) -> Option<&str> {
        match self {
            Self::Incoming(Incoming { call_id, .. })
            | Self::Accepted(Accepted { call_id, .. })
            | Self::Connected(Connected { call_id, .. })
            | Self::Tick(Tick { call_id, .. })
            | Self::MediaLost(Media { call_id, .. })
            | Self::MediaResumed(Media { call_id, .. })
            | Self::Ended(Ended { call_id, .. })
            | Self::CallSnapshot(Some(CallSnapshot { call_id, .. }))
            | Self::Response(Response { call_id, .. }) => Some(call_id),
            Self::CallSnapshot(None) => None,
        }
    }
}
