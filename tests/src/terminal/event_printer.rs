//! Prints every WebSocket message and every stored fact.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::screen::{LineKind, Screen};
use crate::clients::party::{Direction, MessageBroadcast, ObservedMessage};
use crate::facts::reader::{Fact, Facts};

/// Messages that may wait to be printed.
const QUEUED_MESSAGES: usize = 1024;
/// Longer than any demo: the watch ends with its owner.
const FOREVER: Duration = Duration::from_secs(3600);
/// The longest text of a payload that is printed, in characters.
const LONGEST_TEXT: usize = 26;

/// Prints until it is dropped.
#[derive(Debug)]
pub struct EventPrinter {
    messages: MessageBroadcast,
    _tasks: JoinSet<()>,
}

impl EventPrinter {
    /// Starts printing.
    pub async fn new(screen: Screen, facts: &Facts) -> Result<Self> {
        let (messages, mut observed) = broadcast::channel(QUEUED_MESSAGES);
        let watch = facts.watch().await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                match observed.recv().await {
                    Ok(observed) => show_message(&screen, &observed),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        screen.line(
                            LineKind::Bad,
                            &format!("{missed} messages were dropped: printing is too slow"),
                        );
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        tasks.spawn(async move {
            while let Ok(fact) = watch.inbox().take("a fact", FOREVER, |_| true).await {
                show_fact(&screen, &fact);
            }
        });
        Ok(Self {
            messages,
            _tasks: tasks,
        })
    }

    /// The messages of parties with this sender are printed.
    pub fn messages(&self) -> MessageBroadcast {
        self.messages.clone()
    }
}

fn show_message(screen: &Screen, observed: &ObservedMessage) {
    let line_kind = if observed.party.starts_with("user") {
        LineKind::User
    } else {
        LineKind::Otomo
    };
    let arrow = if observed.direction == Direction::Sent {
        "→"
    } else {
        "←"
    };
    let message = &observed.message;
    let kind = message.get("type").and_then(Value::as_str).unwrap_or("?");
    let id = message.get("id").map(|id| format!(" #{id}")).unwrap_or_default();
    let payload = brief(message.get("payload").unwrap_or(&Value::Null));
    screen.line(
        line_kind,
        &format!("{:<10} {arrow} {:<22} {payload}", observed.party, format!("{kind}{id}")),
    );
}

fn show_fact(screen: &Screen, fact: &Fact) {
    let mut payload = fact.payload.clone();
    if let Some(payload) = payload.as_object_mut() {
        // The same in all facts of a call.
        for known in ["callId", "userId", "otomoId"] {
            payload.remove(known);
        }
    }
    let subject = format!("call.….{}", fact.name);
    screen.line(
        LineKind::Fact,
        &format!("NATS #{:<4} ● {subject:<22} {}", fact.sequence, brief(&payload)),
    );
}

/// A payload on one line: long texts and nested values are shortened.
fn brief(payload: &Value) -> String {
    match payload {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| match value {
                Value::Object(_) if is_webrtc(key) => format!("{key}={{…}}"),
                _ => format!("{key}={}", brief_field(value)),
            });
            fields.collect::<Vec<_>>().join(" ")
        }
        other => brief_field(other),
    }
}

fn brief_field(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() <= LONGEST_TEXT => text.clone(),
        Value::String(text) => format!("{}…", text.chars().take(LONGEST_TEXT - 1).collect::<String>()),
        Value::Array(items) => format!("[{}]", items.len()),
        Value::Object(fields) if is_flat(fields) => format!("{{{}}}", brief(value)),
        Value::Object(_) => "{…}".to_owned(),
        other => other.to_string(),
    }
}

/// Long, and of no interest here.
fn is_webrtc(key: &str) -> bool {
    ["ice", "dtls", "rtp"].iter().any(|prefix| key.starts_with(prefix))
}

fn is_flat(fields: &Map<String, Value>) -> bool {
    fields
        .values()
        .all(|value| !value.is_array() && value.as_object().is_none_or(is_flat))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn payloads_are_brief() {
        let payload =
            json!({ "a": "short", "b": "x".repeat(99), "c": [1, 2], "d": { "e": null }, "f": { "g": [] }, "iceX": {} });
        assert_eq!(
            brief(&payload),
            format!("a=short b={}… c=[2] d={{e=null}} f={{…}} iceX={{…}}", "x".repeat(25))
        );
    }
}
