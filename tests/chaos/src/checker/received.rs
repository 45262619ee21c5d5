//! What each party heard, read by what the README says of the protocol.

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

/// `call_connected`: exactly these.
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

/// Where the party's call stands, in `welcome` and `snapshot`.
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

/// The last tick in it.
#[derive(Debug, Deserialize)]
pub(super) struct LastTick {
    pub(super) minute: u64,
    pub(super) at: Timestamp,
}

/// A response that speaks of a call.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response {
    pub(super) call_id: String,
    pub(super) accepted_at: Option<Timestamp>,
    pub(super) ended_at: Option<Timestamp>,
}

/// What was said.
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

/// One message that speaks of a call, or says that there is none.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) at: Timestamp,
    pub(super) word: Message,
}

/// What one party heard, in the order of time.
#[derive(Debug, Default)]
pub(super) struct PartyMessages {
    pub(super) role: &'static str,
    /// When it read anything at all for the first time.
    pub(super) since: Option<Timestamp>,
    pub(super) heard: Vec<Received>,
}

/// All of them, by party.
pub(super) type PartyMessagesById<'a> = BTreeMap<&'a str, PartyMessages>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActiveCall {
    active_call: Value,
}

/// Reads everything that was told. A message that is not what the protocol says is found fault with.
pub(super) fn listen<'a>(told: &'a [ReceivedMessage], report: &mut Report) -> PartyMessagesById<'a> {
    let mut listeners = PartyMessagesById::new();
    for told in told {
        let at = Timestamp::from(told.at);
        let listener = listeners.entry(told.party.as_str()).or_default();
        listener.role = told.role.as_str();
        listener.since = Some(listener.since.map_or(at, |since| since.min(at)));
        match word(&told.message) {
            Ok(Some(word)) => listener.heard.push(Received { at, word }),
            Ok(None) => {}
            Err(error) => {
                let text = format!("{} was told {}: {error}", told.party, told.message);
                report.find(Check::Unreadable, "", &[], text);
            }
        }
    }
    for listener in listeners.values_mut() {
        listener.heard.sort_by_key(|heard| heard.at);
    }
    listeners
}

fn word(message: &Value) -> serde_json::Result<Option<Message>> {
    let payload = message.get("payload").unwrap_or(&Value::Null);
    Ok(Some(match message.get("type").and_then(Value::as_str) {
        Some("incoming_call") => Message::Incoming(read(payload)?),
        Some("call_accepted") => Message::Accepted(read(payload)?),
        Some("call_connected") => Message::Connected(read(payload)?),
        Some("tick") => Message::Tick(read(payload)?),
        Some("media_lost") => Message::MediaLost(read(payload)?),
        Some("media_resumed") => Message::MediaResumed(read(payload)?),
        Some("call_ended") => Message::Ended(read(payload)?),
        Some("welcome" | "snapshot") => Message::CallSnapshot(read(&read::<ActiveCall>(payload)?.active_call)?),
        Some("response") if payload.get("callId").is_some() => Message::Response(read(payload)?),
        _ => return Ok(None),
    }))
}

fn read<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
    T::deserialize(value)
}

impl PartyMessages {
    /// What it heard from that timestamp on.
    pub(super) fn since(&self, timestamp: Timestamp) -> &[Received] {
        let first = self.heard.partition_point(|heard| heard.at < timestamp);
        self.heard.get(first..).unwrap_or_default()
    }
}

impl Message {
    /// The call that it speaks of.
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
