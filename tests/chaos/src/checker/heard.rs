//! What each party heard, read by what the README says of the protocol.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::moment::Moment;
use crate::journal::Told;
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
    pub(super) accepted_at: Moment,
}

/// `call_connected`: exactly these.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Connected {
    pub(super) call_id: String,
    pub(super) user_id: String,
    pub(super) otomo_id: String,
    pub(super) connected_at: Moment,
    pub(super) method: String,
}

/// `tick`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tick {
    pub(super) call_id: String,
    pub(super) minute: u64,
    pub(super) at: Moment,
    pub(super) connected_at: Moment,
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
    pub(super) ended_at: Moment,
    pub(super) reason: String,
    pub(super) duration_ms: i64,
    pub(super) billed_minutes: u64,
}

/// Where the party's call stands, in `welcome` and `snapshot`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Standing {
    pub(super) call_id: String,
    pub(super) user_id: String,
    pub(super) otomo_id: String,
    pub(super) state: String,
    pub(super) accepted_at: Option<Moment>,
    pub(super) connected_at: Option<Moment>,
    pub(super) last_tick: Option<LastTick>,
}

/// The last tick in it.
#[derive(Debug, Deserialize)]
pub(super) struct LastTick {
    pub(super) minute: u64,
    pub(super) at: Moment,
}

/// A response that speaks of a call.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response {
    pub(super) call_id: String,
    pub(super) accepted_at: Option<Moment>,
    pub(super) ended_at: Option<Moment>,
}

/// What was said.
#[derive(Debug)]
pub(super) enum Word {
    Incoming(Incoming),
    Accepted(Accepted),
    Connected(Connected),
    Tick(Tick),
    MediaLost(Media),
    MediaResumed(Media),
    Ended(Ended),
    Standing(Option<Standing>),
    Response(Response),
}

/// One message that speaks of a call, or says that there is none.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) at: Moment,
    pub(super) word: Word,
}

/// What one party heard, in the order of time.
#[derive(Debug, Default)]
pub(super) struct Listener {
    pub(super) role: &'static str,
    /// When it read anything at all for the first time.
    pub(super) since: Option<Moment>,
    pub(super) heard: Vec<Heard>,
}

/// All of them, by party.
pub(super) type Listeners<'a> = BTreeMap<&'a str, Listener>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActiveCall {
    active_call: Value,
}

/// Reads everything that was told. A message that is not what the protocol says is found fault with.
pub(super) fn listen<'a>(told: &'a [Told], report: &mut Report) -> Listeners<'a> {
    let mut listeners = Listeners::new();
    for told in told {
        let at = Moment::from(told.at);
        let listener = listeners.entry(told.party.as_str()).or_default();
        listener.role = told.role.as_str();
        listener.since = Some(listener.since.map_or(at, |since| since.min(at)));
        match word(&told.message) {
            Ok(Some(word)) => listener.heard.push(Heard { at, word }),
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

fn word(message: &Value) -> serde_json::Result<Option<Word>> {
    let payload = message.get("payload").unwrap_or(&Value::Null);
    Ok(Some(match message.get("type").and_then(Value::as_str) {
        Some("incoming_call") => Word::Incoming(read(payload)?),
        Some("call_accepted") => Word::Accepted(read(payload)?),
        Some("call_connected") => Word::Connected(read(payload)?),
        Some("tick") => Word::Tick(read(payload)?),
        Some("media_lost") => Word::MediaLost(read(payload)?),
        Some("media_resumed") => Word::MediaResumed(read(payload)?),
        Some("call_ended") => Word::Ended(read(payload)?),
        Some("welcome" | "snapshot") => Word::Standing(read(&read::<ActiveCall>(payload)?.active_call)?),
        Some("response") if payload.get("callId").is_some() => Word::Response(read(payload)?),
        _ => return Ok(None),
    }))
}

fn read<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
    T::deserialize(value)
}

impl Listener {
    /// What it heard from that moment on.
    pub(super) fn since(&self, moment: Moment) -> &[Heard] {
        let first = self.heard.partition_point(|heard| heard.at < moment);
        self.heard.get(first..).unwrap_or_default()
    }
}

impl Word {
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
            | Self::Standing(Some(Standing { call_id, .. }))
            | Self::Response(Response { call_id, .. }) => Some(call_id),
            Self::Standing(None) => None,
        }
    }
}
